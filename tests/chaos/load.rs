//! The load: tasks of every kind, pushed all the time, and what is known of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use redial_core::queue::cancel::Cancelled;
use redial_core::{Db, QueueName, TaskId};
use redial_tests::stalls::now_ms;
use tokio::task::JoinSet;

use crate::QUEUES;
use crate::kinds::{Draft, Purpose, draft, wrong_list};
use crate::world::World;

/// Between two groups of tasks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a push may take before it counts as lost.
const PUSH_TIMEOUT: Duration = Duration::from_secs(8);
/// How long after its push a task is cancelled whose call is to be in flight.
const IN_FLIGHT: Duration = Duration::from_millis(300);
/// Of so many draws of a rare kind, one counts.
const RARITY: u32 = 8;

/// A task that was pushed.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) id: String,
    pub(crate) queue: &'static str,
    pub(crate) purpose: Purpose,
    /// The producer's bytes.
    pub(crate) raw: String,
    /// When its push began, in Unix ms.
    pub(crate) at_ms: u64,
    /// When Redis acknowledged the push, in Unix ms: from then on it must come to an end. Without that, it may have been pushed.
    pub(crate) acknowledged_ms: Option<u64>,
    /// What tasks share that must get the same answer.
    pub(crate) group: Option<String>,
    /// The delay that it asked for, in ms.
    pub(crate) delay_ms: u64,
    /// The library said that it cancelled the task.
    pub(crate) is_cancelled: bool,
}

impl Pushed {
    fn new(draft: Draft, queue: &'static str, purpose: Purpose) -> Self {
        let Draft { id, raw, group, delay_ms } = draft;
        let at_ms = now_ms();
        Self { id, queue, purpose, raw, at_ms, acknowledged_ms: None, group, delay_ms, is_cancelled: false }
    }

    /// Whether it must come to an end: its push was acknowledged, and it is not one that waits for an hour because it could not be
    /// cancelled.
    pub(crate) fn must_end(&self) -> bool {
        self.acknowledged_ms.is_some() && (self.purpose != Purpose::Cancelled || self.is_cancelled)
    }

    /// Whether the producer can read its result: its id can be read.
    pub(crate) fn has_result(&self) -> bool {
        self.purpose != Purpose::NotJson
    }

    /// The id of the task that follows on it, if one does.
    pub(crate) fn follow_up(&self) -> Option<String> {
        match self.purpose {
            Purpose::Chained => Some(format!("{}.then", self.id)),
            Purpose::CalledBack => Some(format!("{}.callback", self.id)),
            _ => None,
        }
    }

    async fn push(mut self, db: Db) -> Self {
        // Not over the Cluster client of redis, which sends a push again whose reply was lost.
        let queue = db.queue(QueueName::new(self.queue).expect("the queues have valid names"));
        self.at_ms = now_ms();
        let push = tokio::time::timeout(PUSH_TIMEOUT, queue.enqueue(&[&self.raw])).await;
        self.acknowledged_ms = matches!(push, Ok(Ok(()))).then(now_ms);
        if self.purpose == Purpose::CancelledInFlight {
            tokio::time::sleep(IN_FLIGHT).await;
        }
        if self.acknowledged_ms.is_some() && matches!(self.purpose, Purpose::Cancelled | Purpose::CancelledInFlight) {
            self.is_cancelled = self.cancel(&db).await;
        }
        self
    }

    /// Whether the library says that the task was cancelled. While Redis is away it says nothing, and the task goes on.
    async fn cancel(&self, db: &Db) -> bool {
        let queue = db.queue(QueueName::new(self.queue).expect("the queues have valid names"));
        let id = TaskId::new(&self.id).expect("the ids are valid");
        let cancel = tokio::time::timeout(PUSH_TIMEOUT, queue.cancel(&id, 10_000));
        matches!(cancel.await, Ok(Ok(Cancelled::Done(_))))
    }
}

/// What pushes tasks.
pub(crate) struct Load {
    pub(crate) tasks: Vec<Pushed>,
    world: Arc<World>,
    purposes: Vec<Purpose>,
    db: Db,
    rng: StdRng,
}

impl Load {
    pub(crate) fn new(world: Arc<World>, purposes: Vec<Purpose>, rng: StdRng) -> Self {
        let db = world.topology.db();
        Self { tasks: Vec::new(), world, purposes, db, rng }
    }

    /// Pushes tasks for this long. No push waits for another, so that a node that is away holds up only its own.
    pub(crate) async fn run(&mut self, span: Duration) {
        if self.purposes.contains(&Purpose::WrongType) {
            self.write_wrong_lists().await;
        }
        let end = Instant::now() + span;
        let (mut pushing, mut count) = (JoinSet::new(), 0);
        while Instant::now() < end && !self.purposes.is_empty() {
            let purpose = *self.purposes.choose(&mut self.rng).expect("there are purposes");
            let counts = !purpose.is_rare() || self.rng.random_range(0..RARITY) == 0;
            if purpose != Purpose::Scheduled && counts {
                let group = count;
                let queue = *QUEUES.choose(&mut self.rng).expect("there are queues");
                for _ in 0..purpose.group_size() {
                    let shares_over_queues = purpose == Purpose::Keyed;
                    let queue = if shares_over_queues {
                        *QUEUES.choose(&mut self.rng).expect("there are queues")
                    } else {
                        queue
                    };
                    let draft = draft((purpose, count, group), queue, &self.world.upstreams, &mut self.rng);
                    let task = Pushed::new(draft, queue, purpose);
                    pushing.spawn(task.push(self.db.clone()));
                    count += 1;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.tasks = pushing.join_all().await;
        self.tasks.sort_by_key(|task| task.at_ms);
    }

    async fn write_wrong_lists(&self) {
        let mut connection = redial_tests::RedisConnection::open(self.world.topology.primary_url())
            .await
            .expect("nothing is wrong with Redis yet");
        for queue in QUEUES {
            let mut set = redis::cmd("SET");
            set.arg(wrong_list(queue)).arg("not a list");
            set.exec_async(&mut connection).await.expect("nothing is wrong with Redis yet");
        }
    }
}
