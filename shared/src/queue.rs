//! The producer's side of a queue: put tasks on it, read results, count.

use std::sync::Arc;

use crate::keys::Keys;
use crate::store::{Link, Target};
use crate::{Error, QueueName, Store, TaskId, UnixMs, script};

/// The most tasks, and roughly the most bytes, of one `LPUSH`: a larger one would hold up everyone else on the node.
const PUSH_TASKS: usize = 1_000;
const PUSH_BYTES: usize = 1 << 20;

/// A queue, over a connection that any number of tasks may share.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) name: QueueName,
    pub(crate) keys: Arc<Keys>,
    pub(crate) link: Arc<Link>,
    pub(crate) is_cluster: bool,
}

/// How many tasks are in which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pushed and not yet claimed.
    pub waiting: u64,
    /// Waiting for a retry, a delay or a free place.
    pub scheduled: u64,
    /// Waiting for the answer of another task that makes the same call.
    pub following: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Queue {
    /// The queue `name`, with its own connection.
    pub fn new(store: &Store, prefix: &str, name: QueueName) -> Self {
        Self {
            keys: Arc::new(Keys::new(prefix, &name)),
            link: Arc::new(store.link()),
            is_cluster: matches!(store.target(), Target::Cluster(_)),
            name,
        }
    }

    /// Another queue beside this one, over the same connection.
    #[must_use]
    pub fn sibling(&self, name: QueueName) -> Self {
        Self { keys: Arc::new(self.keys.of_queue(&name)), link: self.link.clone(), is_cluster: self.is_cluster, name }
    }

    /// The queue's name.
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// The queue's keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Puts tasks on the queue, in order, as they are: what is wrong with one its dead letter will say.
    ///
    /// # Errors
    /// That of Redis; the tasks before it may be on the queue already.
    pub async fn enqueue<T: AsRef<[u8]>>(&self, tasks: &[T]) -> Result<(), Error> {
        let mut rest = tasks;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |task: &&T| {
                bytes += task.as_ref().len();
                bytes <= PUSH_BYTES
            };
            let count = rest.iter().take(PUSH_TASKS).take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            let mut push = redis::cmd("LPUSH");
            push.arg(&self.keys.waiting);
            for task in now {
                push.arg(task.as_ref());
            }
            self.link.run(async |wire| push.exec_async(wire).await).await?;
            rest = later;
        }
        Ok(())
    }

    /// The result of a task as JSON, or `None` when there is none: not yet, or no longer.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn result(&self, id: &TaskId) -> Result<Option<String>, Error> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.result(id));
        self.link.run(async |wire| get.query_async(wire).await).await
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(&self, call: &script::Call) -> Result<T, Error> {
        self.link.run(async |wire| call.run(wire).await).await
    }

    /// Redis TIME.
    pub(crate) async fn now(&self) -> Result<UnixMs, Error> {
        let (seconds, micros): (u64, u64) =
            self.link.run(async |wire| redis::cmd("TIME").query_async(wire).await).await?;
        Ok(UnixMs(seconds * 1000 + micros / 1000))
    }

    /// How many tasks are where.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let mut count = redis::pipe();
        count.cmd("LLEN").arg(&self.keys.waiting).cmd("LLEN").arg(&self.keys.woken);
        count.cmd("ZCARD").arg(&self.keys.scheduled).cmd("HLEN").arg(&self.keys.following);
        count.cmd("ZCARD").arg(&self.keys.dead);
        let (waiting, woken, scheduled, following, dead): (u64, u64, u64, u64, u64) =
            self.link.run(async |wire| count.query_async(wire).await).await?;
        Ok(Counts { waiting: waiting + woken, scheduled, following, dead })
    }
}
