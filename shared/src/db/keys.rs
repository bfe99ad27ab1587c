//! Every Redis key of Redial. No other file builds a key.
//!
//! All keys of a queue share the hash tag `{queue}`, and so a Cluster slot, and so one script can access them all.

use redis::cluster_routing::Slot;

use crate::consumer::WaitList;
use crate::protocol::id::Token;
use crate::{QueueName, TaskId, WorkerId};

/// The prefix of every key by default.
pub const DEFAULT_PREFIX: &str = "redial";

/// The suffixes of a queue's keys that producers must not write to, except the list itself.
const QUEUE_SUFFIXES: [&str; 16] = [
    "handoff",
    "scheduled",
    "workers",
    "dead",
    "events",
    "stats",
    "statistics",
    "hourly-statistics",
    "replies",
    "stored",
    "watch",
    "waiters",
    "paused",
    "schedules",
    "firings",
    "batches",
];
/// The same for keys that end in a name.
const NAMED_QUEUE_SUFFIXES: [&str; 13] = [
    "active:",
    "claimed:",
    "result:",
    "stream:",
    "stream-wakeup:",
    "wait:",
    "turns:",
    "costs:",
    "answers:",
    "batch-checkpoint:",
    "batch-partitions:",
    "batch-progress:",
    "pushed:",
];
/// How fleet-wide keys begin after the prefix.
const FLEET_PREFIXES: [&str; 4] = ["limit:{", "memo:{", "breaker:{", "cancelled:{"];

/// The name of the fleet-wide list of queues.
const QUEUES: &str = "queues";
/// The name of the fleet-wide list of workers.
const ANNOUNCED: &str = "workers";
/// The name of the fleet-wide list of upstreams for whose calls in flight tasks wait.
const BUSY_UPSTREAMS: &str = "busy-upstreams";

/// Whether a key is Redial's own under the default prefix; [`QueueKeys::is_own`] knows the configured one.
pub(crate) fn is_reserved(key: &str) -> bool {
    is_own(DEFAULT_PREFIX, key)
}

fn is_own(prefix: &str, key: &str) -> bool {
    let Some(rest) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let of_a_queue = || {
        let (_, kind) = rest.strip_prefix('{')?.split_once('}')?;
        let kind = kind.strip_prefix(':').unwrap_or(kind);
        let named = NAMED_QUEUE_SUFFIXES.iter().any(|own| kind.starts_with(own));
        Some(kind.is_empty() || named || QUEUE_SUFFIXES.contains(&kind))
    };
    let of_the_fleet = || {
        matches!(rest, "limits" | "breakers" | "partitions" | QUEUES | ANNOUNCED | BUSY_UPSTREAMS)
            || FLEET_PREFIXES.iter().any(|own| rest.starts_with(own))
    };
    of_a_queue().unwrap_or(false) || of_the_fleet()
}

/// The keys of one queue.
#[derive(Debug, Clone)]
pub struct QueueKeys {
    /// LIST: waiting tasks as their producers pushed them, from the left; workers take them from the right.
    pub waiting: String,
    /// LIST: tasks that were handed to a blocked worker as they were pushed, until that worker or another one claims them.
    pub handoff: String,
    /// ZSET by due time in ms: the serials of tasks that wait for a retry, a delay or a rate limit.
    pub scheduled: String,
    /// HASH by serial: the tasks that were claimed before and that no worker holds now. Those that are not in `scheduled` are parked in
    /// a wait list, such as the one behind the leader of their memo.
    pub stored: String,
    /// ZSET by the end of their lease in ms: the workers that hold tasks of this queue.
    pub workers: String,
    /// ZSET by ms: dead letters.
    pub dead: String,
    /// STREAM, TTL: what happened to tasks lately.
    pub events: String,
    /// HASH of counters.
    pub stats: String,
    /// STREAM, TTL: what workers counted lately, every five seconds.
    pub statistics: String,
    /// STREAM, TTL: the same every minute, for longer.
    pub hourly_statistics: String,
    /// HASH by token: replies to lists in another Cluster slot, until they are delivered.
    pub replies: String,
    /// ZSET by ms: wait lists by when to check on them, and the serials of stored tasks that have a deadline, by that.
    pub watch: String,
    /// HASH by result key: who subscribed to that result.
    pub waiters: String,
    /// HASH by name: schedules, each a header line of JSON and its task.
    pub schedules: String,
    /// ZSET by ms: the names of schedules, by when each fires next.
    pub firings: String,
    /// ZSET by ms, TTL: the batches that said lately how far they are, by when they last did.
    pub batches: String,
    /// STRING: exists while the queue is paused; since when, in ms.
    pub paused: String,
    prefix: String,
}

impl QueueKeys {
    /// The keys of `queue` under `prefix`.
    pub fn new(prefix: &str, queue: &QueueName) -> Self {
        let waiting = format!("{prefix}:{{{queue}}}");
        let key = |what: &str| format!("{waiting}:{what}");
        Self {
            handoff: key("handoff"),
            scheduled: key("scheduled"),
            workers: key("workers"),
            dead: key("dead"),
            events: key("events"),
            stats: key("stats"),
            statistics: key("statistics"),
            hourly_statistics: key("hourly-statistics"),
            replies: key("replies"),
            stored: key("stored"),
            watch: key("watch"),
            waiters: key("waiters"),
            paused: key("paused"),
            schedules: key("schedules"),
            firings: key("firings"),
            batches: key("batches"),
            prefix: prefix.to_owned(),
            waiting,
        }
    }

    /// HASH by token: the tasks that a worker holds.
    pub fn active(&self, worker: &WorkerId) -> String {
        format!("{}:active:{worker}", self.waiting)
    }

    /// ZSET: the serials of the tasks parked in a wait list of this queue, in their order.
    pub fn wait_list(&self, list: &WaitList) -> String {
        format!("{}:wait:{}:{}", self.waiting, list.reason.as_str(), list.name)
    }

    /// HASH by fairness key: where the last turn of each key ends in a wait list.
    pub fn turns(&self, list: &WaitList) -> String {
        format!("{}:turns:{}:{}", self.waiting, list.reason.as_str(), list.name)
    }

    /// HASH by serial: what the tasks of a wait list cost that do not cost 1.
    pub fn costs(&self, list: &WaitList) -> String {
        format!("{}:costs:{}:{}", self.waiting, list.reason.as_str(), list.name)
    }

    /// STRING, TTL: the number of a worker's last claim, by which a repeated claim is recognized.
    pub fn claimed(&self, worker: &WorkerId) -> String {
        format!("{}:claimed:{worker}", self.waiting)
    }

    /// LIST, TTL: the answers to a batch. It is in the queue's slot, and no key of Redial's own, so that tasks may name it.
    pub fn batch_replies(&self, batch: &str) -> String {
        let (_, tag) = self.waiting.rsplit_once(':').unwrap_or_default();
        format!("answers:{tag}:batch:{batch}")
    }

    /// STRING, TTL: the last line of a batch that was pushed.
    pub fn batch_checkpoint(&self, batch: &str) -> String {
        format!("{}:batch-checkpoint:{batch}", self.waiting)
    }

    /// STRING, TTL: over how many partitions the tasks of a batch are spread.
    pub fn batch_partitions(&self, batch: &str) -> String {
        format!("{}:batch-partitions:{batch}", self.waiting)
    }

    /// STRING, TTL: how far a batch is, as JSON.
    pub fn batch_progress(&self, batch: &str) -> String {
        format!("{}:batch-progress:{batch}", self.waiting)
    }

    /// STRING, TTL: the fingerprint of the task that was pushed once under an id; or `@` and the number of the partition to which it is.
    pub fn pushed(&self, id: &TaskId) -> String {
        format!("{}:pushed:{id}", self.waiting)
    }

    /// STRING: the result of a task.
    pub fn result(&self, id: &TaskId) -> String {
        [&self.waiting, ":result:", id.as_str()].concat()
    }

    /// STRING, TTL: a large result on its way to its key.
    pub fn upload(&self, token: &Token) -> String {
        format!("{}:upload:{}", self.waiting, token.as_str())
    }

    /// STREAM, TTL: the answer of a task as it arrives.
    pub fn stream(&self, id: &TaskId) -> String {
        format!("{}:stream:{id}", self.waiting)
    }

    /// STREAM, TTL: what wakes a reader of streams that blocks, so that it reads another one as well.
    pub fn stream_wakeup(&self, reader: &str) -> String {
        format!("{}:stream-wakeup:{reader}", self.waiting)
    }

    /// The id of the task whose result this key holds.
    pub(crate) fn id_of_result(&self, key: &str) -> Option<TaskId> {
        let id = key.strip_prefix(&self.waiting)?.strip_prefix(":result:")?;
        TaskId::new(id).ok()
    }

    /// LIST, TTL: the results that one waiter subscribed to.
    pub fn answers(&self, waiter: &str) -> String {
        format!("{}:answers:{waiter}", self.waiting)
    }

    /// Whether a key belongs to Redial, in this queue or any other, and so must not receive a reply: a result pushed to the waiting
    /// list would be taken for a task, and its TTL would delete all tasks on the list.
    pub fn is_own(&self, key: &str) -> bool {
        is_own(&self.prefix, key)
    }

    /// Whether a key is in this queue's Cluster slot.
    pub fn same_slot(&self, key: &str) -> bool {
        Slot::for_key(key) == Slot::for_key(&self.waiting)
    }
}

/// The keys of what the whole fleet shares. Each limit, memo and breaker has a Cluster slot of its own.
#[derive(Debug, Clone)]
pub struct FleetKeys {
    prefix: String,
}

impl FleetKeys {
    /// The fleet-wide keys under `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The keys of a queue under the same prefix.
    pub fn for_queue(&self, queue: &QueueName) -> QueueKeys {
        QueueKeys::new(&self.prefix, queue)
    }

    /// ZSET by ms: the names of the queues, by when a worker last served them.
    pub fn queues(&self) -> String {
        format!("{}:{QUEUES}", self.prefix)
    }

    /// ZSET by ms: the workers of the fleet with their queues, by when they count as gone.
    pub fn announced(&self) -> String {
        format!("{}:{ANNOUNCED}", self.prefix)
    }

    /// HASH by queue: over how many partitions it is spread.
    pub fn partitions(&self) -> String {
        format!("{}:partitions", self.prefix)
    }

    /// LIST, TTL: the tokens of the tasks that were cancelled while this worker held them.
    pub fn cancelled(&self, worker: &WorkerId) -> String {
        format!("{}:cancelled:{{{worker}}}", self.prefix)
    }

    /// HASH, TTL: a memo, by its hash.
    pub fn memo(&self, hash: &str) -> String {
        format!("{}:memo:{{{hash}}}", self.prefix)
    }

    /// HASH: a limit. The two keys below share its slot.
    pub fn limit(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}", self.prefix)
    }

    /// HASH, TTL: the queues in which calls wait for a limit, each with when it last announced one.
    pub fn limit_waiting(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}:waiting", self.prefix)
    }

    /// ZSET by us, TTL: the tokens of the calls in flight under a limit, by the end of their lease.
    pub fn limit_slots(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}:slots", self.prefix)
    }

    /// ZSET by ms: the names of the limits, by when each was last used.
    pub fn limits(&self) -> String {
        format!("{}:limits", self.prefix)
    }

    /// HASH, TTL: the breaker of an upstream, by its `host:port`, with its retry budget.
    pub fn breaker(&self, upstream: &str) -> String {
        format!("{}:breaker:{{{upstream}}}", self.prefix)
    }

    /// ZSET by ms: the upstreams whose breaker opened, by when it last did.
    pub fn breakers(&self) -> String {
        format!("{}:breakers", self.prefix)
    }

    /// ZSET by ms: the upstreams that had as many calls in flight as they may while tasks waited, by when they last did.
    pub fn busy_upstreams(&self) -> String {
        format!("{}:{BUSY_UPSTREAMS}", self.prefix)
    }
}

#[cfg(test)]
mod tests;
