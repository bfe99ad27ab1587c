//! A task in hand, parsed.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, header};
use redial_core::memo::{Delivery, KeptAnswer, MemoKey, MemoPurpose};
use redial_core::protocol::id::Token;
use redial_core::protocol::result::Body;
use redial_core::protocol::task::TaskError;
use redial_core::queue::entry::{Entry, EntryHeader, Progress};
use redial_core::{Attempt, QueueName, Reason, Source, Status, Task, TaskId, TaskResult, UnixMs};
use tokio::sync::OwnedSemaphorePermit;

use crate::breaker::Let;
use crate::call::{Answer, Called};
use crate::limiter::Place;
use crate::limits::Limited;

/// A task in hand, parsed.
#[derive(Debug)]
pub struct Job {
    /// The fence of this delivery.
    pub token: Token,
    /// What is known of it beyond its bytes.
    pub header: EntryHeader,
    /// Its name: the producer's, or the one it was given.
    pub id: TaskId,
    pub task: Task,
    /// Held while it must run alone.
    pub alone: Option<OwnedSemaphorePermit>,
    /// The memos that it leads, to be settled with its result.
    pub leads: Vec<MemoKey>,
    /// The leave of its upstream's breaker.
    pub leave: Option<Let>,
    /// The limits that have let its call go.
    pub limits: Vec<Limited>,
    /// Its places in flight, given back when dropped.
    pub places: Vec<Place>,
}

/// A task in hand that is none.
#[derive(Debug)]
pub struct Unfit {
    pub token: Token,
    pub serial: String,
    pub refusal: Box<TaskError>,
}

impl Job {
    /// Parses a claimed entry. Its bytes are let go of: Redis has them.
    ///
    /// # Errors
    /// [`Unfit`] says what is wrong.
    pub fn open(entry: Entry, max_bytes: usize) -> Result<Self, Unfit> {
        let Entry { token, header, raw } = entry;
        match Task::parse(&raw, max_bytes) {
            Ok(task) => {
                let given = || TaskId::derive(&header.serial, header.first_seen);
                let id = task.id.clone().unwrap_or_else(given);
                Ok(Self {
                    token,
                    id,
                    header,
                    task,
                    alone: None,
                    leads: Vec::new(),
                    leave: None,
                    limits: Vec::new(),
                    places: Vec::new(),
                })
            }
            Err(refusal) => Err(Unfit { token, serial: header.serial, refusal }),
        }
    }

    /// Remembers what became of an attempt.
    pub fn remember(&mut self, at: UnixMs, took_ms: u64, called: &Called, error: Option<&str>, wait_ms: Option<u64>) {
        self.header.state.remember(Attempt {
            at_ms: at,
            took_ms,
            http_status: called.as_ref().ok().map(|answer| answer.status),
            error: error.map(str::to_owned),
            wait_ms,
        });
    }

    /// The result, with the last answer if there is one.
    pub fn result(&self, status: Status, now: UnixMs, last: Option<Called>) -> TaskResult {
        let mut result = TaskResult::new(Some(self.id.clone()), status, now);
        result.attempts.clone_from(&self.header.state.attempts);
        result.meta.clone_from(&self.task.meta);
        result.enqueued_at_ms = self.task.enqueued_at;
        if let Some(Ok(answer)) = last {
            put_answer(&mut result, answer);
        }
        result
    }

    /// The result where the answer is another task's; or its own, found again after its worker died.
    pub fn result_from(&self, kept: &KeptAnswer, purpose: MemoPurpose, now: UnixMs) -> TaskResult {
        let is_own = kept.by == self.header.serial;
        TaskResult {
            id: Some(self.id.clone()),
            meta: self.task.meta.clone(),
            enqueued_at_ms: self.task.enqueued_at,
            attempts: if is_own { kept.result.attempts.clone() } else { self.header.state.attempts.clone() },
            source: match purpose {
                _ if is_own => Source::Call,
                MemoPurpose::Idempotency => Source::Idempotency,
                // Whatever the call of another one at the same time brought; what was there before it came is the cache's.
                MemoPurpose::Cache if kept.result.finished_at_ms >= self.header.first_seen => Source::Shared,
                MemoPurpose::Cache => Source::Cache,
            },
            finished_at_ms: now,
            ..kept.result.clone()
        }
    }

    /// What is kept of it while no worker holds it.
    pub fn header_at_rest(&self) -> EntryHeader {
        let mut header = self.header.clone();
        header.started = false;
        header.state.leads = self.leads.iter().map(|key| key.hash.clone()).collect();
        header
    }

    /// How to ask a memo.
    pub fn delivery<'a>(&'a self, queue: &'a QueueName) -> Delivery<'a> {
        Delivery { serial: &self.header.serial, token: &self.token, queue }
    }

    /// The age that a kept answer must be below; `None` for any.
    pub fn max_age(&self, purpose: MemoPurpose) -> Option<Duration> {
        match purpose {
            MemoPurpose::Idempotency => None,
            MemoPurpose::Cache => self.task.cache_ttl,
        }
    }

    /// Whether it was in a worker's hands before, as far as can be seen.
    pub fn was_here_before(&self) -> bool {
        self.header.started || self.header.crashes > 0 || self.header.state != Progress::default()
    }

    /// A result on its way to Redis.
    pub fn answer(&self, result: &TaskResult) -> redial_core::consumer::Completion {
        redial_core::consumer::Completion {
            token: self.token.clone(),
            id: self.id.clone(),
            result: result.to_line(),
            ttl: self.task.result_ttl,
            reply_to: self.task.reply_to.clone(),
            follow_ups: redial_core::protocol::follow_ups::follow_ups(&self.task, result),
        }
    }

    /// The header of its dead letter; `added` are the headers that the worker adds to it.
    pub fn letter(&self, result: &TaskResult, added: &HeaderMap) -> String {
        let own = result.reason != Some(Reason::IdempotencyMismatch);
        let memo = MemoKey::idempotency(&self.task, added).filter(|_| own);
        redial_core::consumer::dead_letter_header(
            &self.header.serial,
            memo.as_ref().map(|key| key.hash.as_str()),
            result,
        )
    }

    /// The result of a task that is dead.
    pub fn dead(&self, reason: Reason, error: String, now: UnixMs, last: Option<Called>) -> TaskResult {
        let mut result = self.result(Status::Dead, now, last);
        result.reason = Some(reason);
        result.error = Some(error);
        result
    }
}

/// Puts the upstream's answer into a result.
fn put_answer(result: &mut TaskResult, answer: Answer) {
    let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    result.http_status = Some(answer.status);
    result.set_body(Body::new(answer.body, content_type));
    result.headers = Some(kept_headers(&answer.headers));
}

/// The headers that a result keeps: the first 64, up to 8 KiB in all, without cookies, which are credentials.
fn kept_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    const MAX_HEADERS: usize = 64;
    const MAX_BYTES: usize = 8 << 10;
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::SET_COOKIE).take(MAX_HEADERS) {
        bytes += name.as_str().len() + value.len();
        if bytes > MAX_BYTES {
            break;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        kept.entry(name.as_str().to_owned())
            .and_modify(|held| *held = format!("{held}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    kept
}
