//! Every key of Redial. No other file puts a key together.
//!
//! All keys of a queue share the hash tag `{queue}`, so one Cluster slot, so one script can touch them all.

use redis::cluster_routing::Slot;

use crate::consumer::Line;
use crate::{QueueName, TaskId, WorkerId};

/// The prefix of every key unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "redial";

/// Kinds of keys of a queue, and of fleet-wide ones, that Redial keeps for itself.
const OF_A_QUEUE: [&str; 12] = [
    "woken",
    "scheduled",
    "workers",
    "dead",
    "stats",
    "replies",
    "following",
    "watch",
    "waiters",
    "paused",
    "schedules",
    "firings",
];
const OF_A_QUEUE_BY_NAME: [&str; 6] = ["active:", "claimed:", "result:", "line:", "answers:", "batch-mark:"];
const OF_THE_FLEET: [&str; 3] = ["limit:{", "memo:{", "breaker:{"];

/// The name of the fleet-wide set of queues.
const QUEUES: &str = "queues";

/// Whether a key is Redial's own unless it is configured otherwise; [`Keys::is_own`] knows for certain.
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
        let named = OF_A_QUEUE_BY_NAME.iter().any(|own| kind.starts_with(own));
        Some(kind.is_empty() || named || OF_A_QUEUE.contains(&kind))
    };
    let of_the_fleet =
        || matches!(rest, "limits" | "breakers" | QUEUES) || OF_THE_FLEET.iter().any(|own| rest.starts_with(own));
    of_a_queue().unwrap_or(false) || of_the_fleet()
}

/// The keys of one queue.
#[derive(Debug, Clone)]
pub struct Keys {
    /// LIST of waiting tasks as their producers pushed them: push left, taken from the right.
    pub waiting: String,
    /// LIST of tasks that woke an idle worker and are about to be claimed, by that worker or any other.
    pub woken: String,
    /// ZSET by due time in ms: tasks that wait for a retry, a delay or a free place.
    pub scheduled: String,
    /// ZSET by ms of the end of their lease: the workers of this queue.
    pub workers: String,
    /// ZSET by ms: dead letters.
    pub dead: String,
    /// HASH of counters.
    pub stats: String,
    /// HASH by token: replies for lists in another Cluster slot, until they are delivered.
    pub replies: String,
    /// HASH by serial: tasks that wait in a line, such as that behind the one that leads their memo.
    pub following: String,
    /// ZSET by ms: the lines of this queue and the tasks in them that have a deadline, by when to look after them.
    pub watch: String,
    /// HASH by result key: who asked to be told when there is a result.
    pub waiters: String,
    /// HASH by name: schedules: a header line of JSON, when it fires, and its task.
    pub schedules: String,
    /// ZSET by ms: the names of schedules, by when each fires next.
    pub firings: String,
    /// STRING: there while the queue is paused: since when, in ms.
    pub paused: String,
    /// SET: the names of all queues that ever had a worker. In a slot of its own.
    pub queues: String,
    prefix: String,
}

impl Keys {
    /// The keys of `queue` under `prefix`.
    pub fn new(prefix: &str, queue: &QueueName) -> Self {
        let waiting = format!("{prefix}:{{{queue}}}");
        let of = |what: &str| format!("{waiting}:{what}");
        Self {
            woken: of("woken"),
            scheduled: of("scheduled"),
            workers: of("workers"),
            dead: of("dead"),
            stats: of("stats"),
            replies: of("replies"),
            following: of("following"),
            watch: of("watch"),
            waiters: of("waiters"),
            schedules: of("schedules"),
            firings: of("firings"),
            paused: of("paused"),
            queues: format!("{prefix}:{QUEUES}"),
            prefix: prefix.to_owned(),
            waiting,
        }
    }

    /// Those of another queue under the same prefix.
    #[must_use]
    pub fn of_queue(&self, queue: &QueueName) -> Self {
        Self::new(&self.prefix, queue)
    }

    /// HASH by token: the tasks that a worker holds.
    pub fn active(&self, worker: &WorkerId) -> String {
        format!("{}:active:{worker}", self.waiting)
    }

    /// ZSET by ms: the serials of a line's tasks in this queue, in the order in which they came.
    pub fn line(&self, line: &Line) -> String {
        format!("{}:line:{}:{}", self.waiting, line.kind.as_str(), line.name)
    }

    /// HASH, TTL: what the fleet remembers of a call, by its hash. In a slot of its own.
    pub fn memo(&self, hash: &str) -> String {
        format!("{}:memo:{{{hash}}}", self.prefix)
    }

    /// HASH: a limit, shared by the fleet. In a slot of its own, with those below.
    pub fn limit(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}", self.prefix)
    }

    /// ZSET by us, TTL: those that wait for a limit, by when their last call may go.
    pub fn limit_flows(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}:flows", self.prefix)
    }

    /// ZSET by us, TTL: those of which some came on time and found the rate used, by when the last of these may go.
    pub fn limit_lines(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}:lines", self.prefix)
    }

    /// ZSET by us, TTL: the tokens of the calls that are in flight under a limit, by the end of their lease.
    pub fn limit_places(&self, name: &str) -> String {
        format!("{}:limit:{{{name}}}:places", self.prefix)
    }

    /// HASH, TTL: the breaker of an upstream, by its `host:port`, with its retry budget. In a slot of its own.
    pub fn breaker(&self, upstream: &str) -> String {
        format!("{}:breaker:{{{upstream}}}", self.prefix)
    }

    /// ZSET by ms: the upstreams whose breaker opened, by when that was last noted.
    pub fn breakers(&self) -> String {
        format!("{}:breakers", self.prefix)
    }

    /// ZSET by ms: the names of the limits, by when they were last used.
    pub fn limits(&self) -> String {
        format!("{}:limits", self.prefix)
    }

    /// STRING, TTL: the number of a worker's last claim, by which one that comes twice is known.
    pub fn claimed(&self, worker: &WorkerId) -> String {
        format!("{}:claimed:{worker}", self.waiting)
    }

    /// LIST, TTL: the answers to a batch.
    pub fn batch_replies(&self, batch: &str) -> String {
        format!("{}:batch:{batch}", self.waiting)
    }

    /// STRING, TTL: the last line of a batch that was pushed.
    pub fn batch_mark(&self, batch: &str) -> String {
        format!("{}:batch-mark:{batch}", self.waiting)
    }

    /// STRING: the result of a task.
    pub fn result(&self, id: &TaskId) -> String {
        format!("{}:result:{id}", self.waiting)
    }

    /// The id of the task whose result this key holds.
    pub(crate) fn id_of_result(&self, key: &str) -> Option<TaskId> {
        let id = key.strip_prefix(&self.waiting)?.strip_prefix(":result:")?;
        TaskId::new(id).ok()
    }

    /// LIST, TTL: the results that one waiter asked to be told of.
    pub fn answers(&self, waiter: &str) -> String {
        format!("{}:answers:{waiter}", self.waiting)
    }

    /// Whether a key is one of Redial's own, of this queue or any other: no place for a reply. A result in the waiting list
    /// would be a task, and its time to live would end all tasks beside it.
    pub fn is_own(&self, key: &str) -> bool {
        is_own(&self.prefix, key)
    }

    /// Whether a list named by a producer lies in this queue's Cluster slot.
    pub fn same_slot(&self, key: &str) -> bool {
        Slot::for_key(key) == Slot::for_key(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// Producers in every language spell these keys by hand: a change here breaks them.
    #[test]
    fn the_keys_of_the_protocol_stand() -> Result<(), Box<dyn std::error::Error>> {
        let keys = Keys::new(DEFAULT_PREFIX, &QueueName::new("default")?);
        assert_eq!(keys.waiting, "redial:{default}");
        assert_eq!(keys.woken, "redial:{default}:woken");
        assert_eq!(keys.scheduled, "redial:{default}:scheduled");
        assert_eq!(keys.workers, "redial:{default}:workers");
        assert_eq!(keys.dead, "redial:{default}:dead");
        assert_eq!(keys.stats, "redial:{default}:stats");
        assert_eq!(keys.replies, "redial:{default}:replies");
        assert_eq!(keys.following, "redial:{default}:following");
        assert_eq!(keys.watch, "redial:{default}:watch");
        assert_eq!(keys.waiters, "redial:{default}:waiters");
        assert_eq!(keys.paused, "redial:{default}:paused");
        assert_eq!(keys.queues, "redial:queues");
        assert_eq!(keys.schedules, "redial:{default}:schedules");
        assert_eq!(keys.firings, "redial:{default}:firings");
        assert_eq!(keys.answers("x"), "redial:{default}:answers:x");
        assert_eq!(keys.line(&Line::memo("ab")), "redial:{default}:line:memo:ab");
        assert_eq!(keys.memo("ab"), "redial:memo:{ab}");
        assert_eq!(keys.limit("ab"), "redial:limit:{ab}");
        assert_eq!(keys.limit_flows("ab"), "redial:limit:{ab}:flows");
        assert_eq!(keys.limit_lines("ab"), "redial:limit:{ab}:lines");
        assert_eq!(keys.limit_places("ab"), "redial:limit:{ab}:places");
        assert_eq!(keys.limits(), "redial:limits");
        assert_eq!(
            keys.line(&Line::breaker("api.example.com:443")),
            "redial:{default}:line:breaker:api.example.com:443"
        );
        assert_eq!(keys.breaker("api.example.com:443"), "redial:breaker:{api.example.com:443}");
        assert_eq!(keys.breakers(), "redial:breakers");
        let worker = WorkerId::from_redis("w1".into());
        assert_eq!(keys.active(&worker), "redial:{default}:active:w1");
        assert_eq!(keys.claimed(&worker), "redial:{default}:claimed:w1");
        assert_eq!(keys.result(&TaskId::new("a1")?), "redial:{default}:result:a1");
        assert_eq!(keys.batch_replies("b1"), "redial:{default}:batch:b1");
        assert_eq!(keys.batch_mark("b1"), "redial:{default}:batch-mark:b1");
        assert!(!keys.is_own(&keys.batch_replies("b1")));
        assert!(keys.same_slot("answers:{default}"));
        assert!(!keys.same_slot("answers"));
        Ok(())
    }

    #[test]
    fn a_reply_may_go_anywhere_but_to_a_key_of_redials_own() -> Result<(), Error> {
        let keys = Keys::new("mine", &QueueName::new("default")?);
        for own in
            ["{other}", "{q/0}:woken", "{q}:dead", "{q}:active:w", "{q}:result:a", "limit:{x}", "memo:{x}", "queues"]
        {
            assert!(keys.is_own(&format!("mine:{own}")), "{own}");
            assert!(is_reserved(&format!("redial:{own}")), "{own}");
        }
        for free in ["answers", "redial", "redial-x", "redial:x", "redial:{default}:mine", "answers:{default}"] {
            assert!(!is_reserved(free), "{free}");
        }
        assert!(!keys.is_own("redial:{default}"));
        Ok(())
    }
}
