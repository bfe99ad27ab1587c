//! The worker's side of a queue: a task's life, each step one script.
//!
//! `waiting -> active -> { complete | scheduled -> active ... | dead }`. Every step of a claimed task is fenced by the
//! token of its delivery: a worker that lost its lease changes nothing.

mod complete;
mod lease;
mod park;
mod wait_list;

use std::time::Duration;

use crate::db::{BLOCK_TIMEOUT, Link};
use crate::protocol::id::Token;
use crate::queue::entry::{Entry, EntryHeader};
use crate::script;
use crate::{Error, Queue, UnixMs, WorkerId};

pub(crate) use complete::TaskPosition;
pub use complete::{Completion, dead_letter_header};
pub use lease::{HeartbeatReply, TakenBack};
pub use park::{DueCheck, ParkedPage, ParkedTasks};
pub use wait_list::{Selection, WaitList, WaitReason};

/// The most tasks of one claim or one reap: a larger batch would hold up everyone else on the node, and Lua's `unpack`
/// fails beyond about 8,000 values.
pub const MAX_BATCH: usize = 100;
/// The most bytes of one claim or one reap, beyond a first task: Redis copies about 300 MB a second into Lua and back,
/// and meanwhile serves no one else.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// What a claim says in the place of the next due time where the queue is paused.
const PAUSED: i64 = -2;

/// One worker at one queue.
#[derive(Debug)]
pub struct Consumer {
    queue: Queue,
    worker: WorkerId,
    active: String,
    claimed: String,
    lease: Duration,
    waker: Link,
}

/// Names one claim, so that it can be sent again when its answer was lost and take nothing more. Its number is higher than
/// that of every claim before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimId(String);

impl ClaimId {
    /// The `n`th claim of a worker.
    pub fn new(worker: &WorkerId, n: u64) -> Self {
        Self(format!("{worker}:{n}"))
    }
}

/// What a claim brought.
#[derive(Debug)]
pub struct Claimed {
    /// Redis TIME.
    pub now: UnixMs,
    /// When the next scheduled task is due.
    pub next_due: Option<UnixMs>,
    /// Whether the queue is paused: then only what an earlier copy of this claim took is among the tasks.
    pub paused: bool,
    /// The tasks, now this worker's.
    pub entries: Vec<Entry>,
    /// Tokens of entries that this version can't read.
    pub unreadable: Vec<(Token, Error)>,
}

/// Why a task goes back without a final answer; each is a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescheduleReason {
    /// An attempt failed.
    Retried,
    /// No attempt was made yet.
    Deferred,
    /// Its worker stops.
    Released,
}

impl RescheduleReason {
    /// The counter's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Deferred => "deferred",
            Self::Released => "released",
        }
    }
}

impl Consumer {
    /// Worker `worker` at `queue`; its lease lasts `lease` from each heartbeat or claim.
    pub fn new(queue: Queue, worker: WorkerId, lease: Duration) -> Self {
        let active = queue.keys.active(&worker);
        let claimed = queue.keys.claimed(&worker);
        Self { worker, active, claimed, lease, waker: queue.db.blocking_link(), queue }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The worker's name here.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// Takes up to `most` tasks (at most [`MAX_BATCH`]): due ones first, then waiting ones.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The claim may have been carried out: send it again under the same id.
    pub async fn claim(&self, id: &ClaimId, most: usize) -> Result<Claimed, Error> {
        let keys = &self.queue.keys;
        let call = script::CLAIM
            .call()
            .key(&keys.waiting)
            .key(&keys.handoff)
            .key(&keys.scheduled)
            .key(&self.active)
            .key(&keys.workers)
            .key(&self.claimed)
            .key(&keys.paused)
            .arg(&self.worker)
            .arg(&id.0)
            .arg(most.min(MAX_BATCH))
            .arg(self.lease.as_millis())
            .arg(MAX_BATCH_BYTES);
        let (now, next_due, raw): (u64, i64, Vec<Vec<u8>>) =
            self.queue.db.invoke(&call).await.and_then(|reply: Vec<redis::Value>| split_claim(reply))?;
        let mut claimed = Claimed {
            now: UnixMs(now),
            next_due: u64::try_from(next_due).ok().map(UnixMs),
            paused: next_due == PAUSED,
            entries: Vec::with_capacity(raw.len()),
            unreadable: Vec::new(),
        };
        for (n, bytes) in raw.into_iter().enumerate() {
            let token = Token(format!("{}:{}", id.0, n + 1));
            match Entry::parse(token.clone(), bytes) {
                Ok(entry) => claimed.entries.push(entry),
                Err(error) => claimed.unreadable.push((token, error)),
            }
        }
        Ok(claimed)
    }

    /// Waits, for at most [`BLOCK_TIMEOUT`], until a task is pushed; then it lies in `handoff`, for the next claim of any worker.
    /// Returns whether there was one. Never drop this future: the wait goes on at the server.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn wait_for_push(&self) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let mut wait = redis::cmd("BLMOVE");
        wait.arg(&keys.waiting).arg(&keys.handoff).arg("RIGHT").arg("LEFT").arg(BLOCK_TIMEOUT.as_secs_f64());
        let woken: Option<Vec<u8>> = self.waker.run(async |connection| wait.query_async(connection).await).await?;
        Ok(woken.is_some())
    }

    /// Gives back what woke this worker when it has no free place for it: the push wakes another one.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Nothing is lost: the task stays in `handoff`, for the next claim of any worker.
    pub async fn forward_wakeup(&self) -> Result<(), Error> {
        let keys = &self.queue.keys;
        let mut back = redis::cmd("LMOVE");
        back.arg(&keys.handoff).arg(&keys.waiting).arg("RIGHT").arg("RIGHT");
        self.queue.db.run(async |connection| back.exec_async(connection).await).await
    }

    /// Puts down that a call is about to go out. `false`: the lease was lost, do not call.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn mark_started(&self, token: &Token, header: &EntryHeader) -> Result<bool, Error> {
        let call = script::BEGIN.call().key(&self.active).arg(token.as_str()).arg(header.to_line());
        self.queue.db.invoke(&call).await
    }

    /// Gives a task back, to be claimed again after `wait` and not before `not_before`. Returns when it is due, or `None`
    /// when the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn reschedule(
        &self,
        token: &Token,
        header: &EntryHeader,
        wait: Duration,
        not_before: UnixMs,
        why: RescheduleReason,
    ) -> Result<Option<UnixMs>, Error> {
        let keys = &self.queue.keys;
        let call = script::RETRY_AT
            .call()
            .key(&self.active)
            .key(&keys.scheduled)
            .key(&keys.stats)
            .arg(token.as_str())
            .arg(wait.as_millis())
            .arg(not_before)
            .arg(header.to_line())
            .arg(why.as_str());
        let due: u64 = self.queue.db.invoke(&call).await?;
        Ok((due > 0).then_some(UnixMs(due)))
    }
}

fn split_claim(reply: Vec<redis::Value>) -> Result<(u64, i64, Vec<Vec<u8>>), Error> {
    let data = |_| Error::Data("the answer to a claim".into());
    let mut values = reply.into_iter();
    let mut head = || redis::from_redis_value(values.next().unwrap_or(redis::Value::Nil));
    let (now, next_due): (i64, i64) = (head().map_err(data)?, head().map_err(data)?);
    let entries = values
        .map(|value| match value {
            redis::Value::BulkString(bytes) => Ok(bytes),
            other => redis::from_redis_value(other),
        })
        .collect::<Result<_, _>>()
        .map_err(data)?;
    Ok((now.unsigned_abs(), next_due, entries))
}
