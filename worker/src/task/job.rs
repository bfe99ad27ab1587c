//! A task in a worker's memory: parsed, with what Redis keeps about it.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use redial_core::consumer::{Completion, dead_letter_header};
use redial_core::memo::{Delivery, KeptAnswer, MemoKey, MemoPurpose, upstream_key};
use redial_core::protocol::follow_ups::{follow_ups, follow_ups_of_invalid};
use redial_core::protocol::id::Token;
use redial_core::protocol::result::Body;
use redial_core::protocol::stream::last_entry;
use redial_core::protocol::task::{InvalidTask, RESULT_TTL, ReturnAddress, TaskError};
use redial_core::queue::entry::{Entry, EntryHeader, Progress, StartMarker, is_delivery};
use redial_core::{Attempt, QueueName, Reason, Source, Status, Task, TaskId, TaskResult, UnixMs};
use serde_json::value::RawValue;

use super::stream::progress::StreamProgress;
use super::task_trace::TaskTrace;
use super::types::Turn;
use crate::config::Config;
use crate::http::types::{AttemptResult, Response};

/// The bytes of the shortest path in a chain, `{{$}}`.
const SHORTEST_PATH: usize = 5;

/// A claimed task, parsed.
#[derive(Debug)]
pub struct Job {
    /// The fence of this delivery.
    pub token: Token,
    /// What Redis keeps about the task besides its bytes.
    pub header: EntryHeader,
    /// Its id: the producer's, or a derived one.
    pub id: TaskId,
    pub task: Task,
    /// How many bytes its producer pushed.
    pub raw_bytes: usize,
    /// What it brings along from a wait list.
    pub turn: Turn,
    /// How large a task may be, which one that follows it may not exceed.
    pub max_task_bytes: usize,
    /// Its place in its trace, `None` if that is not recorded; empty until it is asked for.
    pub trace: OnceLock<Option<Box<TaskTrace>>>,
    /// What this delivery has appended to its stream, if it has one.
    pub stream: Option<Box<Mutex<StreamProgress>>>,
}

/// A claimed entry that is not a valid task.
#[derive(Debug)]
pub struct InvalidJob {
    pub token: Token,
    pub serial: String,
    pub first_seen: UnixMs,
    pub error: Box<TaskError>,
}

impl InvalidJob {
    /// Its result.
    pub fn result(&self, now: UnixMs, attempts: Vec<Attempt>) -> TaskResult {
        let error = &self.error;
        let mut result = TaskResult::new(error.return_address.id.clone(), Status::Dead, now);
        result.attempts = attempts;
        result.reason = Some(error.reason());
        result.error = Some(shortened(error.to_string()));
        result.meta = error.return_address.meta.clone().and_then(|meta| RawValue::from_string(meta).ok());
        result
    }

    /// What tells the sender, if the entry has an id, a reply list, or both.
    ///
    /// Without an id nobody can look for the result. But a reply is always stored together with a result, which then gets a derived key.
    pub fn completion(&self, result: &TaskResult) -> Option<Completion> {
        let sender = &self.error.return_address;
        let derived = || TaskId::derive(&self.serial, self.first_seen);
        let id = sender.id.clone().or_else(|| sender.reply_to.is_some().then(derived))?;
        Some(Completion {
            token: self.token.clone(),
            id,
            result: result.to_line(),
            ttl: RESULT_TTL,
            reply_to: sender.reply_to.clone(),
            last_entry: None,
            follow_ups: follow_ups_of_invalid(&self.error, result),
        })
    }
}

impl Job {
    /// Parses a claimed entry, with the configuration's defaults for its upstream. Its bytes are dropped: Redis has them.
    ///
    /// # Errors
    /// The entry is not a valid task.
    pub fn open(entry: Entry, queue: &QueueName, config: &Config) -> Result<Self, InvalidJob> {
        let Entry { token, header, raw } = entry;
        let upstreams = config.upstreams.current();
        let mut defaults = None;
        let parsed = Task::parse_with(&raw, config.max_task_bytes, |url| *defaults.insert(upstreams.defaults_for(url)));
        let is_delivery = is_delivery(&header.serial);
        let check = |task: &mut Task| {
            check_origin(task, is_delivery)?;
            let defaults = defaults.unwrap_or_else(|| upstreams.defaults_for(&task.url));
            config.rules.apply(task, (queue, header.first_seen), &config.limits, defaults)
        };
        let checked = parsed.and_then(|mut task| match check(&mut task) {
            Ok(()) => Ok(task),
            Err(cause) => Err(Box::new(TaskError { cause, return_address: ReturnAddress::read(&raw) })),
        });
        match checked {
            Ok(mut task) => {
                set_upstream_key(&mut task);
                let derived = || TaskId::derive(&header.serial, header.first_seen);
                let id = task.id.clone().unwrap_or_else(derived);
                let stream = task.stream.then(Box::default);
                Ok(Self {
                    raw_bytes: raw.len(),
                    token,
                    header,
                    id,
                    task,
                    turn: Turn::default(),
                    max_task_bytes: config.max_task_bytes,
                    trace: OnceLock::new(),
                    stream,
                })
            }
            Err(mut error) => {
                error.return_address.reply_to.take_if(|list| !config.rules.allow_reply_to(list));
                Err(InvalidJob { token, serial: header.serial, first_seen: header.first_seen, error })
            }
        }
    }

    /// Adds an attempt to the task's history.
    pub fn remember(
        &mut self,
        at: UnixMs,
        took_ms: u64,
        result: &AttemptResult,
        error: Option<&str>,
        wait_ms: Option<u64>,
    ) {
        self.header.state.remember(Attempt {
            at_ms: at,
            took_ms,
            http_status: result.as_ref().ok().map(|response| response.status),
            error: error.map(str::to_owned),
            wait_ms,
        });
    }

    /// Whether a part of an answer of this delivery may be in the task's stream.
    pub fn has_streamed(&self) -> bool {
        self.stream.as_ref().is_some_and(|progress| progress.lock().has_begun)
    }

    /// Why the task's stream lacks a part of its answer, if so.
    pub fn stream_error(&self) -> Option<String> {
        self.stream.as_ref()?.lock().error.clone()
    }

    /// The task's result, with the last response if there is one.
    pub fn result(&self, status: Status, now: UnixMs, last: Option<AttemptResult>) -> TaskResult {
        let mut result = TaskResult::new(Some(self.id.clone()), status, now);
        result.attempts.clone_from(&self.header.state.attempts);
        result.meta.clone_from(&self.task.meta);
        result.enqueued_at_ms = self.task.enqueued_at;
        result.stream_error = self.stream_error();
        if let Some(Ok(response)) = last {
            add_response(&mut result, response);
        }
        result
    }

    /// The result of a dead task.
    pub fn dead(&self, reason: Reason, error: String, now: UnixMs, last: Option<AttemptResult>) -> TaskResult {
        let mut result = self.result(Status::Dead, now, last);
        result.reason = Some(reason);
        result.error = Some(error);
        result
    }

    /// The result that consists of a kept answer: another task's, or the task's own from before its worker died.
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
                // What arrived after this task came from a call that both shared; what was there before comes from the cache.
                MemoPurpose::Cache if kept.result.finished_at_ms >= self.header.first_seen => Source::Shared,
                MemoPurpose::Cache => Source::Cache,
            },
            finished_at_ms: now,
            stream_error: None,
            ..kept.result.clone()
        }
    }

    /// What Redis keeps about the task, while no worker holds it, besides its bytes.
    pub fn header_at_rest(&self, leads: &[MemoKey]) -> EntryHeader {
        let mut header = self.header.clone();
        header.started = StartMarker::Absent;
        header.state.leads = leads.iter().map(|key| key.hash.clone()).collect();
        header
    }

    /// How this delivery identifies itself to a memo.
    pub fn delivery<'a>(&'a self, queue: &'a QueueName) -> Delivery<'a> {
        Delivery { serial: &self.header.serial, token: &self.token, queue }
    }

    /// The age from which on a kept answer is too old; `None` if any will do.
    pub fn max_age(&self, purpose: MemoPurpose) -> Option<Duration> {
        match purpose {
            MemoPurpose::Idempotency => None,
            MemoPurpose::Cache => self.task.cache_ttl,
        }
    }

    /// Whether a worker has held the task before, as far as Redis knows.
    pub fn is_redelivery(&self) -> bool {
        self.header.started != StartMarker::Absent
            || self.header.crashes > 0
            || self.header.state != Progress::default()
    }

    /// How many bytes have to be gone through to finish the task with a response of this size: the response, and for a chain as often
    /// as its paths may ask for it.
    pub fn bytes_to_finish(&self, response: usize) -> usize {
        match &self.task.then {
            None => response,
            Some(then) if then.get().contains(['?', '*']) || then.get().contains("..") => usize::MAX,
            Some(then) => then.get().len() + response.saturating_mul(1 + then.get().len() / SHORTEST_PATH),
        }
    }

    /// The result on its way to Redis.
    pub fn completion(&self, result: &TaskResult) -> Completion {
        Completion {
            token: self.token.clone(),
            id: self.id.clone(),
            result: result.to_line(),
            ttl: self.task.result_ttl,
            reply_to: self.task.reply_to.clone(),
            last_entry: self.task.stream.then(|| last_entry(result)),
            follow_ups: follow_ups(&self.task, result, self.max_task_bytes),
        }
    }

    /// The header of the task's dead letter. `added` are the headers that the worker adds to the call.
    pub fn dead_letter_header(&self, result: &TaskResult, added: &HeaderMap) -> String {
        let is_own_key = result.reason != Some(Reason::IdempotencyMismatch);
        let memo = MemoKey::idempotency(&self.task, added).filter(|_| is_own_key);
        dead_letter_header(&self.header.serial, memo.as_ref().map(|key| key.hash.as_str()), result)
    }
}

/// Checks that a delivery is one that Redial made.
///
/// # Errors
/// It is not: a producer could have any result signed and sent anywhere.
fn check_origin(task: &Task, is_delivery: bool) -> Result<(), InvalidTask> {
    if task.callback_of.is_some() && !is_delivery { Err(InvalidTask::ForgedDelivery) } else { Ok(()) }
}

/// Keeps the idempotency keys of tenants apart at the upstream, where they may share an account: that of the worker.
fn set_upstream_key(task: &mut Task) {
    let (Some(tenant), Some(key)) = (&task.tenant, &task.idempotency_key) else { return };
    // It cannot fail: the key was a header's value before, and a tenant is printable ASCII.
    if let Ok(key) = HeaderValue::from_str(&upstream_key(tenant, key)) {
        task.headers.insert("idempotency-key", key);
    }
}

/// Puts the upstream's response into a result.
pub fn add_response(result: &mut TaskResult, response: Response) {
    let content_type = response.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    result.http_status = Some(response.status);
    result.set_body(Body::new(response.body, content_type));
    result.headers = Some(kept_headers(&response.headers));
}

/// The headers that a result keeps: 64, up to 8 KiB in all, without cookies, which are credentials. One that is too large leaves room for
/// those behind it.
pub fn kept_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    const MAX_HEADERS: usize = 64;
    const MAX_BYTES: usize = 8 << 10;
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::SET_COOKIE).take(MAX_HEADERS) {
        let size = name.as_str().len() + value.len();
        if bytes + size > MAX_BYTES {
            continue;
        }
        bytes += size;
        let value = String::from_utf8_lossy(value.as_bytes());
        kept.entry(name.as_str().to_owned())
            .and_modify(|held| *held = format!("{held}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    kept
}

/// A message that quotes a task, such as a header's name of a megabyte, without most of the quotation.
fn shortened(mut message: String) -> String {
    const MAX_BYTES: usize = 4096;
    if message.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or_default());
        message.push_str("...");
    }
    message
}
