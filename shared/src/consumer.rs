//! A queue from a worker's side: the life of a task, each step one script.
//!
//! `waiting -> active -> { complete | scheduled -> active ... | dead }`. Every step of a claimed task is fenced by the
//! token of its delivery, so a worker that lost its lease changes nothing.

mod cancelled;
mod complete;
mod lease;
mod park;
mod turn;
mod wait_list;

use std::time::Duration;

use crate::db::{LISTEN_TIMEOUT, Link};
use crate::protocol::id::Token;
use crate::queue::entry::{Entry, EntryHeader};
use crate::script::millis;
use crate::script::task::{Claim, ClaimReply, GiveUp, MarkStarted, Reschedule};
use crate::{Error, Queue, UnixMs, WorkerId};

pub use crate::script::task::StartedTask;
pub use cancelled::CancellationListener;
pub(crate) use complete::TaskPosition;
pub use complete::{Completion, dead_letter_header};
pub use lease::{HeartbeatReply, LeaseRenewal, TakenBack};
pub use park::{CheckRound, DueCheck, ParkedPage, ParkedTasks};
pub use turn::{DrainId, ReleasedTasks, TurnRequest};
pub use wait_list::{Selection, WaitList, WaitReason};

/// The most tasks of one claim or one reap: a larger batch would hold up everyone else on the node, and Lua's `unpack`
/// fails beyond about 8,000 values.
pub const MAX_BATCH: usize = 100;
/// The most bytes of one claim or one reap, beyond the task that reaches it: Redis copies about 300 MB a second into Lua and back, and
/// serves no one else meanwhile.
const MAX_BATCH_BYTES: usize = 512 << 10;

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

/// Names one claim, so that it can be sent again if its reply was lost, without taking more tasks. Its number is higher than that of
/// every claim before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimId(String);

impl ClaimId {
    /// The `n`th claim of a worker.
    pub fn new(worker: &WorkerId, n: u64) -> Self {
        Self(format!("{worker}:{n}"))
    }
}

/// What a claim took.
#[derive(Debug)]
pub struct Claimed {
    /// Redis TIME.
    pub now: UnixMs,
    /// When the next scheduled task is due.
    pub next_due: Option<UnixMs>,
    /// The queue is paused: then the tasks are only those that an earlier copy of this claim took.
    pub paused: bool,
    /// The tasks, now this worker's.
    pub entries: Vec<Entry>,
    /// Tokens of entries that this version cannot read.
    pub unreadable: Vec<(Token, Error)>,
}

/// Why a task goes back without a final answer; each is a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescheduleReason {
    /// An attempt failed.
    Retried,
    /// No attempt was made.
    Deferred,
    /// Its worker shuts down.
    Released,
}

impl RescheduleReason {
    /// The name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Deferred => "deferred",
            Self::Released => "released",
        }
    }
}

impl Consumer {
    /// The worker `worker` at `queue`. Its lease on the tasks that it holds lasts for `lease` after each heartbeat.
    pub fn new(queue: Queue, worker: WorkerId, lease: Duration) -> Self {
        let active = queue.keys.active(&worker);
        let claimed = queue.keys.claimed(&worker);
        Self { worker, active, claimed, lease, waker: queue.db.listening_link(), queue }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The worker's id at this queue.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// The key of the tasks that this worker holds.
    pub(crate) fn active_key(&self) -> &str {
        &self.active
    }

    /// Takes up to `most` tasks (at most [`MAX_BATCH`]): due ones first, then waiting ones.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The claim may have been carried out: send it again under the same id.
    pub async fn claim(&self, id: &ClaimId, most: usize) -> Result<Claimed, Error> {
        let keys = &self.queue.keys;
        let call = Claim {
            waiting: &keys.waiting,
            handoff: &keys.handoff,
            scheduled: &keys.scheduled,
            stored: &keys.stored,
            watch: &keys.watch,
            active: &self.active,
            workers: &keys.workers,
            claimed: &self.claimed,
            paused: &keys.paused,
            worker: self.worker.as_str(),
            request_id: &id.0,
            max_tasks: most.min(MAX_BATCH),
            lease_ms: millis(self.lease),
            max_bytes: MAX_BATCH_BYTES,
        };
        let ClaimReply { now, next_due, paused, entries: raw } = self.queue.db.call(&call).await?;
        let raw = raw.into_iter().enumerate();
        let (entries, unreadable) =
            Entry::parse_all(raw.map(|(n, bytes)| (Token([&id.0, ":", &(n + 1).to_string()].concat()), bytes)));
        Ok(Claimed { now, next_due, paused, entries, unreadable })
    }

    /// Waits until a task is pushed, for this long and at most for [`LISTEN_TIMEOUT`], and moves it to `handoff` for the next claim of any
    /// worker. Returns
    /// whether there was one. If this future is dropped, the server goes on waiting until [`stop_waiting`](Self::stop_waiting).
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn wait_for_push(&self, timeout: Duration) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let mut wait = redis::cmd("BLMOVE");
        wait.arg(&keys.waiting)
            .arg(&keys.handoff)
            .arg("RIGHT")
            .arg("LEFT")
            .arg(timeout.min(LISTEN_TIMEOUT).as_secs_f64());
        let woken: Option<Vec<u8>> = self.waker.run(async |connection| wait.query_async(connection).await).await?;
        Ok(woken.is_some())
    }

    /// Ends [`wait_for_push`](Self::wait_for_push), whose future must have been dropped.
    pub async fn stop_waiting(&self) {
        self.waker.close().await;
    }

    /// Puts the task that woke this worker back if it has no room for it: the push wakes another worker.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Nothing is lost: the task stays in `handoff`, for the next claim of any worker.
    pub async fn forward_wakeup(&self) -> Result<(), Error> {
        let keys = &self.queue.keys;
        let mut back = redis::cmd("LMOVE");
        back.arg(&keys.handoff).arg(&keys.waiting).arg("RIGHT").arg("RIGHT");
        self.queue.db.run(async |connection| back.exec_async(connection).await).await
    }

    /// Records that a call is about to be sent, so that a killed worker leaves a trace of it. `false`: the lease was lost, do not
    /// send it.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn mark_started(&self, token: &Token, header: &EntryHeader) -> Result<bool, Error> {
        let task = StartedTask { token: token.0.clone(), header: header.to_line() };
        Ok(self.mark_all_started(&[task]).await? == [true])
    }

    /// The same for several tasks, whose entries are small together: a script reads all of them. For each: whether it may be sent.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn mark_all_started(&self, tasks: &[StartedTask]) -> Result<Vec<bool>, Error> {
        self.queue.db.call(&MarkStarted { active: &self.active, tasks }).await
    }

    /// Gives a task back with which this worker cannot go on, and counts a crash. It waits for `wait`, and twice as long after each
    /// further crash. `false`: the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn give_up(&self, token: &Token, wait: Duration) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let call = GiveUp {
            active: &self.active,
            scheduled: &keys.scheduled,
            stored: &keys.stored,
            stats: &keys.stats,
            token: token.as_str(),
            wait_ms: millis(wait),
        };
        self.queue.db.call(&call).await
    }

    /// Gives a task back, to be claimed again after `wait` and not before `not_before`, and to be expired at its deadline. Returns
    /// when it is due, or `None` if the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn reschedule(
        &self,
        token: &Token,
        header: &EntryHeader,
        wait: Duration,
        not_before: UnixMs,
        deadline: Option<UnixMs>,
        why: RescheduleReason,
    ) -> Result<Option<UnixMs>, Error> {
        let keys = &self.queue.keys;
        let call = Reschedule {
            active: &self.active,
            scheduled: &keys.scheduled,
            stored: &keys.stored,
            watch: &keys.watch,
            stats: &keys.stats,
            token: token.as_str(),
            serial: &header.serial,
            wait_ms: millis(wait),
            not_before_ms: not_before.0,
            deadline_ms: deadline,
            header: &header.to_line(),
            reason: why.as_str(),
        };
        let due = self.queue.db.call(&call).await?;
        Ok((due > 0).then_some(UnixMs(due)))
    }
}
