//! The life of a task, each step one script. Keys of one call are all in the queue's Cluster slot.

use redis::{FromRedisValue, ParsingError, Value};

use super::ending::{Ending, FinishedTasks, LostTasks};
use super::push_checkpoint::PushCheckpoint;
use super::turn::{ReleasedInTurn, TakenInTurn, TurnTask};
use super::{Invocation, MoreKeys, Rest, Values, typed_calls};
use crate::protocol::id::Token;
use crate::{UnixMs, WorkerId};

typed_calls! {
    /// Pushes the next tasks of a batch, once however often it is sent.
    EnqueueOnce = "task/enqueue_once" + ["types"] -> PushCheckpoint {
        keys: waiting, checkpoint;
        args: before: u64, after: u64, ttl_ms: u64;
        rest tasks: &'a [String] = [];
    }

    /// Takes due and waiting tasks off a queue for one worker, whose lease on them begins.
    Claim = "task/claim" + ["clock", "types", "out_of_memory", "repeated"] -> ClaimReply {
        keys: waiting, handoff, scheduled, stored, watch, active, workers, claimed, paused;
        args: worker: &'a str, request_id: &'a str, max_tasks: usize, lease_ms: u64, max_bytes: usize;
    }

    /// Records that calls are about to be sent. For each: `false`: the lease was lost, do not send it.
    MarkStarted = "task/mark_started" + ["entry", "out_of_memory"] -> Vec<bool> {
        keys: active;
        args: ;
        rest tasks: &'a [StartedTask] = [token, header];
    }

    /// Completes a batch of tasks.
    Finish = "task/finish" + ["clock", "types", "out_of_memory", "follow_up", "count", "reply_list", "store_result", "stream", "notify"] -> LostTasks {
        keys: held, stats, replies, waiters, waiting, stored, scheduled;
        args: ;
        rest tasks: FinishedTasks<'a> = [task_count, ttl_ms, reply_mode, reply_list, last_entry, follow_up_count];
    }

    /// Gives a claimed task back for later. Returns when it is due, or 0 if the lease was lost.
    Reschedule = "task/reschedule" + ["clock", "types", "count", "entry"] -> u64 {
        keys: active, scheduled, stored, watch, stats;
        args: token: &'a str, serial: &'a str, wait_ms: u64, not_before_ms: u64, deadline_ms: Option<UnixMs>, header: &'a str,
            reason: &'a str;
    }

    /// Ends a task as a dead letter. `false`: it is no longer there.
    Bury = "task/bury" + ["clock", "types", "follow_up", "count", "entry", "reply_list", "store_result", "stream", "notify"] -> bool {
        keys: place, dead, stats, replies, waiters, waiting, stored, scheduled; then result_key, reply_key;
        args: place_type: &'a str, member: &'a [u8], letter_header: &'a str, token: &'a str;
        rest ending: Option<Ending<'a>> = [ttl_ms, result, reply_mode, reply_list, last_entry];
    }

    /// Delivers a reply to a list in another Cluster slot. `false`: the key is not a list.
    Deliver = "task/deliver" + ["reply_list"] -> bool {
        keys: reply_list;
        args: ttl_ms: &'a str, result: &'a str;
    }

    /// Renews a worker's lease.
    Heartbeat = "task/heartbeat" + ["clock", "types", "out_of_memory"] -> HeartbeatReply {
        keys: workers, active, waiting, handoff, scheduled, replies, watch, firings;
        args: worker: &'a str, lease_ms: u64;
    }

    /// Gives a task back that its worker could not go on with, and counts a crash. `false`: the lease was lost.
    GiveUp = "task/give_up" + ["clock", "types", "entry", "count"] -> bool {
        keys: active, scheduled, stored, stats;
        args: token: &'a str, wait_ms: u64;
    }

    /// Takes tasks back from a worker.
    Reap = "task/reap" + ["clock", "types", "count", "entry"] -> TakenBack {
        keys: workers, active, scheduled, stored, stats;
        args: worker: &'a str, reason: &'a str, renewal: &'a str, max_tasks: usize, max_bytes: usize;
        rest tokens: &'a [&'a str] = [];
    }

    /// Puts a dead letter back on its queue. `false`: it is gone.
    Replay = "task/replay" + ["clock", "types", "follow_up", "count", "entry"] -> bool {
        keys: dead, waiting, stats, stored, scheduled; then result_key, stream;
        args: letter: &'a [u8], serial: &'a str;
        rest answer_keys: MoreKeys<'a> = [];
    }

    /// Deletes a dead letter. `false`: it is gone.
    DropDead = "task/drop_dead" + ["count"] -> bool {
        keys: dead, stats;
        args: letter: &'a [u8];
    }

    /// Parks a task in a wait list. `false`: the lease was lost.
    Park = "task/park" + ["clock", "types", "count", "entry"] -> bool {
        keys: active, stored, wait_list, watch, stats;
        args: token: &'a str, serial: &'a str, header: &'a str, list_name: &'a str, check_in_ms: u64,
            deadline_ms: Option<UnixMs>, position: Option<u64>;
    }

    /// Reads the first tasks of a wait list.
    ReadParkedPage = "task/parked_page" + ["types"] -> ParkedPageReply {
        keys: wait_list, stored, watch;
        args: list_name: &'a str, max_tasks: usize, max_bytes: usize;
    }

    /// Makes parked tasks available to workers. Returns their serials.
    Unpark = "task/unpark" + ["clock", "types", "count"] -> Vec<String> {
        keys: wait_list, stored, scheduled, stats;
        args: serial: &'a str, selection: Selection;
    }

    /// Parks tasks in a wait list whose order is fair. For each: whether the lease was held.
    ParkInTurn = "task/park_in_turn" + ["clock", "types", "count", "entry"] -> Vec<bool> {
        keys: active, stored, wait_list, turns, costs, watch, stats;
        args: list_name: &'a str, check_in_ms: u64;
        rest tasks: &'a [TurnTask<'a>] = [token, serial, header, deadline_ms, cost, fairness_key, position, dies_when_spent];
    }

    /// Takes tasks from a wait list for one worker, and reads who is next.
    ReleaseInTurn = "task/release_in_turn" + ["count"] -> ReleasedInTurn {
        keys: wait_list, turns, costs, stored, watch, active, workers, paused, stats;
        args: list_name: &'a str, worker: &'a str, lease_ms: u64, max_bytes: usize, max_next: usize;
        rest tasks: &'a [TakenInTurn] = [serial, token];
    }

    /// Subscribes a waiter to results. Returns those that exist already.
    Subscribe = "task/subscribe" + ["clock", "types", "out_of_memory"] -> Vec<Option<String>> {
        keys: waiters;
        args: waiter_list: &'a str, subscribe_ms: u64, grace_ms: u64;
        rest result_keys: MoreKeys<'a> = [];
    }
}

/// Selects tasks of a wait list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// This many from its start.
    Next(usize),
    /// The last one.
    Last,
}

impl Selection {
    /// No task.
    pub const NONE: Self = Self::Next(0);
    const LAST: &'static str = "last";
}

impl super::ScriptArg for Selection {
    fn write_to(&self, command: &mut redis::Cmd) {
        match self {
            Self::Next(count) => count.write_to(command),
            Self::Last => Self::LAST.write_to(command),
        }
    }
}

impl FromRedisValue for Selection {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text = String::from_redis_value(value)?;
        let count = || text.parse().map(Self::Next).map_err(|_| ParsingError::from("neither a count nor `last`"));
        if text == Self::LAST { Ok(Self::Last) } else { count() }
    }
}

/// A task of [`MarkStarted`].
#[derive(Debug, Clone)]
pub struct StartedTask {
    /// The fence: the field that holds it.
    pub token: String,
    /// The new header of its entry.
    pub header: String,
}

impl Rest for StartedTask {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.token);
        call.arg(&self.header);
    }
}

/// What [`Claim`] took.
#[derive(Debug)]
pub struct ClaimReply {
    /// Redis TIME.
    pub now: UnixMs,
    /// When the next scheduled task is due.
    pub next_due: Option<UnixMs>,
    /// The queue is paused.
    pub paused: bool,
    /// The entries, in the order of their tokens.
    pub entries: Vec<Vec<u8>>,
}

impl FromRedisValue for ClaimReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        const PAUSED: i64 = -2;
        let mut values = Values::of(reply)?;
        let (now, next_due): (_, i64) = (values.next()?, values.next()?);
        // Takes each entry's bytes over; the conversion of redis-rs to a vector of bytes looks at each byte.
        let entry = |value| match value {
            Value::BulkString(bytes) => Ok(bytes),
            other => Vec::from_redis_value(other),
        };
        let entries = values.0.map(entry).collect::<Result<_, _>>()?;
        let paused = next_due == PAUSED;
        Ok(Self { now, next_due: u64::try_from(next_due).ok().map(UnixMs), paused, entries })
    }
}

/// What a heartbeat returned.
#[derive(Debug)]
pub struct HeartbeatReply {
    /// Redis TIME.
    pub now: UnixMs,
    /// How many tasks this worker holds, according to Redis.
    pub held: usize,
    /// How many replies wait to be delivered to another Cluster slot.
    pub undelivered: usize,
    /// How many wait lists and deadlines are due for a check before the next heartbeat.
    pub watched: usize,
    /// Whether the queue holds anything that a worker must attend to.
    pub is_in_use: bool,
    /// The leases that workers have on tasks of this queue.
    pub leases: Vec<(WorkerId, LeaseRenewal)>,
}

/// When a worker's lease ends by its last renewal, as Redis has it. Two that are equal mean that it was not renewed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRenewal(String);

impl LeaseRenewal {
    /// A renewal read from Redis.
    pub fn from_redis(text: String) -> Self {
        Self(text)
    }

    /// What Redis has.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the lease ends, by the clock of Redis at the time of the renewal.
    pub fn stated_end(&self) -> UnixMs {
        UnixMs::from_double(self.0.parse().unwrap_or_default())
    }
}

impl FromRedisValue for HeartbeatReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        Ok(Self {
            now: values.next()?,
            held: values.next()?,
            undelivered: values.next()?,
            watched: values.next()?,
            is_in_use: values.next()?,
            leases: {
                let mut leases = Vec::new();
                while !values.is_empty() {
                    leases.push((WorkerId::from_redis(values.next()?), LeaseRenewal(values.next()?)));
                }
                leases
            },
        })
    }
}

/// What one batch of a reap or release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenBack {
    /// Tasks that were made available to other workers.
    pub moved: usize,
    /// Tasks that the worker still holds.
    pub remaining: usize,
}

impl FromRedisValue for TakenBack {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let (moved, remaining) = FromRedisValue::from_redis_value(reply)?;
        Ok(Self { moved, remaining })
    }
}

/// The first tasks of a wait list.
#[derive(Debug)]
pub struct ParkedPageReply {
    /// How many tasks the list has.
    pub left: usize,
    /// Serial and entry of each task that was read.
    pub tasks: Vec<(Token, Vec<u8>)>,
}

impl FromRedisValue for ParkedPageReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let left = values.next()?;
        let mut tasks = Vec::new();
        while !values.is_empty() {
            tasks.push((Token(values.next()?), values.next()?));
        }
        Ok(Self { left, tasks })
    }
}
