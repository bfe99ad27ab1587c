//! The load: tasks of every kind, pushed all the time, and what is known of each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use redial_core::queue::cancel::Cancelled;
use redial_core::{Db, QueueName, TaskId};
use redial_tests::stalls::now_ms;
use redial_tests::{TestQueue, Upstream};
use serde_json::{Value, json};

use crate::QUEUES;
use crate::topology::Topology;

/// Between two groups of tasks.
const PAUSE: Duration = Duration::from_millis(40);
/// How long a push may take before it counts as lost.
const PUSH_TIMEOUT: Duration = Duration::from_secs(8);
/// The rate limit that `limited` tasks are under: calls a second, and at once.
pub(crate) const RATE: f64 = 20.0;
pub(crate) const BURST: f64 = 5.0;

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Fails up to twice, then is answered.
    Plain,
    /// May be called only once.
    Once,
    /// One of three with the same idempotency key.
    Keyed,
    /// One of five with the same cache key.
    Cached,
    /// Not before its time.
    Delayed,
    /// Under a rate limit.
    Limited,
    /// Never answered, and has a deadline.
    Doomed,
    /// Not a valid task.
    Invalid,
    /// Its result goes to a list as well.
    Replied,
    /// Cancelled before its time.
    Cancelled,
    /// Followed by another task.
    Chained,
    /// Its result is delivered by a call.
    CalledBack,
}

const PURPOSES: [Purpose; 12] = [
    Purpose::Plain,
    Purpose::Once,
    Purpose::Keyed,
    Purpose::Cached,
    Purpose::Delayed,
    Purpose::Limited,
    Purpose::Doomed,
    Purpose::Invalid,
    Purpose::Replied,
    Purpose::Cancelled,
    Purpose::Chained,
    Purpose::CalledBack,
];

/// A task that was pushed.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) id: String,
    pub(crate) queue: &'static str,
    pub(crate) purpose: Purpose,
    /// The producer's bytes.
    pub(crate) raw: String,
    /// When it was pushed, in Unix ms.
    pub(crate) at_ms: u64,
    /// What tasks share that must get the same answer.
    pub(crate) group: Option<String>,
    /// The delay that it asked for, in ms.
    pub(crate) delay_ms: u64,
    /// Redis has acknowledged the push: it must come to an end.
    pub(crate) is_acknowledged: bool,
    /// The library said that it cancelled the task.
    pub(crate) is_cancelled: bool,
}

impl Pushed {
    /// Whether it must come to an end: its push was acknowledged, and it is not one that waits for an hour because it could not be
    /// cancelled.
    pub(crate) fn must_end(&self) -> bool {
        self.is_acknowledged && (self.purpose != Purpose::Cancelled || self.is_cancelled)
    }

    /// The id of the task that follows on it, if one does.
    pub(crate) fn follow_up(&self) -> Option<String> {
        match self.purpose {
            Purpose::Chained => Some(format!("{}.then", self.id)),
            Purpose::CalledBack => Some(format!("{}.callback", self.id)),
            _ => None,
        }
    }
}

/// What pushes tasks.
pub(crate) struct Load<'a> {
    pub(crate) tasks: Vec<Pushed>,
    topology: &'a Topology,
    queues: HashMap<(&'a str, &'static str), TestQueue>,
    db: Db,
    upstream: String,
    rng: StdRng,
}

impl<'a> Load<'a> {
    pub(crate) fn new(topology: &'a Topology, upstream: &Upstream, rng: StdRng) -> Self {
        Self { tasks: Vec::new(), topology, queues: HashMap::new(), db: topology.db(), upstream: upstream.url(""), rng }
    }

    /// The list that `replied` tasks of a queue answer to.
    pub(crate) fn reply_list(queue: &str) -> String {
        format!("answers:{{{queue}}}:chaos")
    }

    /// Pushes tasks for this long.
    pub(crate) async fn run(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            let purpose = *PURPOSES.choose(&mut self.rng).expect("there are purposes");
            let queue = *QUEUES.choose(&mut self.rng).expect("there are queues");
            self.push_group(purpose, queue).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn push_group(&mut self, purpose: Purpose, queue: &'static str) {
        let size = match purpose {
            Purpose::Keyed => 3,
            Purpose::Cached => 5,
            _ => 1,
        };
        let group = self.tasks.len();
        for _ in 0..size {
            let mut task = self.task(purpose, queue, group);
            let url = self.topology.primary_url();
            let connected = self.queues.entry((url, queue)).or_insert_with(|| TestQueue::new(url, queue));
            let push = connected.try_push(&task.raw);
            task.is_acknowledged = matches!(tokio::time::timeout(PUSH_TIMEOUT, push).await, Ok(Ok(())));
            if purpose == Purpose::Cancelled && task.is_acknowledged {
                task.is_cancelled = self.cancel(&task).await;
            }
            self.tasks.push(task);
        }
    }

    fn task(&mut self, purpose: Purpose, queue: &'static str, group: usize) -> Pushed {
        let id = format!("{purpose:?}-{}", self.tasks.len()).to_lowercase();
        let url = |path: &str| format!("{}{path}", self.upstream);
        let retry = json!({"max_attempts": 30, "base_ms": 50, "cap_ms": 500});
        let mut task = json!({"id": id, "url": url(&format!("/flaky/{id}")), "retry": retry});
        let (mut shared, mut delay_ms) = (None, 0);
        let mut set = |field: &str, value: Value| task[field] = value;
        match purpose {
            Purpose::Plain => {}
            Purpose::Once => {
                set("url", json!(url(&format!("/once/{id}"))));
                set("effect", json!("once"));
                set("body", json!({"pay": 1}));
            }
            Purpose::Keyed => {
                shared = Some(format!("key-{group}"));
                set("url", json!(url(&format!("/flaky/key-{group}"))));
                set("body", json!({"charge": group}));
                set("idempotency_key", json!(shared));
            }
            Purpose::Cached => {
                shared = Some(format!("cache-{group}"));
                set("url", json!(url(&format!("/flaky/cache-{group}"))));
                set("cache_ttl_ms", json!(600_000));
            }
            Purpose::Delayed | Purpose::Cancelled => {
                delay_ms = if purpose == Purpose::Cancelled { 3_600_000 } else { self.rng.random_range(500..4_000) };
                set("delay_ms", json!(delay_ms));
            }
            Purpose::Limited => {
                set("url", json!(url(&format!("/limited/{id}"))));
                set("limit", json!({"name": "chaos", "rate": RATE, "burst": BURST}));
            }
            Purpose::Doomed => {
                set("url", json!(url(&format!("/down/{id}"))));
                set("ttl_ms", json!(2_000));
            }
            Purpose::Invalid => set("url", json!("not a url")),
            Purpose::Replied => set("reply_to", json!(Self::reply_list(queue))),
            Purpose::Chained => set("then", json!({"url": url(&format!("/then/{id}?call={{{{$.body.call}}}}"))})),
            Purpose::CalledBack => set("callback_url", json!(url(&format!("/hook/{id}")))),
        }
        Pushed {
            raw: task.to_string(),
            id,
            queue,
            purpose,
            at_ms: now_ms(),
            group: shared,
            delay_ms,
            is_acknowledged: false,
            is_cancelled: false,
        }
    }

    /// Whether the library says that the task was cancelled. While Redis is away it says nothing, and the task goes on.
    async fn cancel(&self, task: &Pushed) -> bool {
        let queue = self.db.queue(QueueName::new(task.queue).expect("the queues have valid names"));
        let id = TaskId::new(&task.id).expect("the ids are valid");
        let cancel = tokio::time::timeout(PUSH_TIMEOUT, queue.cancel(&id, 10_000));
        matches!(cancel.await, Ok(Ok(Cancelled::Done(_))))
    }
}
