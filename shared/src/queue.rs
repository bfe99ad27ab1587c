//! A queue as producers, operators and waiting programs use it: enqueue, results, counts; find, cancel, dead letters, batches.

pub mod admin;
pub mod batch;
pub mod cancel;
pub mod dead;
pub mod entry;
pub mod find;
pub mod waiter;

use std::sync::Arc;

use crate::db::Db;
use crate::db::keys::QueueKeys;
use crate::{Error, QueueName, TaskId};

/// The most tasks, and roughly the most bytes, of one `LPUSH`: a larger one would hold up everyone else on the node.
const PUSH_TASKS: usize = 1_000;
const PUSH_BYTES: usize = 1 << 20;

/// A queue. Clones, and the other queues of its [`Db`], share one connection.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) name: QueueName,
    pub(crate) keys: Arc<QueueKeys>,
    pub(crate) db: Db,
}

/// How many tasks are in which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pushed and not yet claimed.
    pub waiting: u64,
    /// Waiting for a retry, a delay or a rate limit.
    pub scheduled: u64,
    /// Parked until the leader of their memo has its answer, or until their upstream is back.
    pub parked: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Queue {
    /// The queue `name`; see [`Db::queue`].
    pub(crate) fn new(db: Db, name: QueueName) -> Self {
        Self { keys: Arc::new(db.keys().of_queue(&name)), db, name }
    }

    /// The Redis that the queue lies in.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The queue's name.
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// The queue's keys.
    pub fn keys(&self) -> &QueueKeys {
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
            self.db.run(async |connection| push.exec_async(connection).await).await?;
            rest = later;
        }
        Ok(())
    }

    /// The result of a task as JSON, or `None` when there is none: not yet, or no longer.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn result(&self, id: &TaskId) -> Result<Option<String>, Error> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.result(id));
        self.db.run(async |connection| get.query_async(connection).await).await
    }

    /// How many tasks are where.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let mut count = redis::pipe();
        count.cmd("LLEN").arg(&self.keys.waiting).cmd("LLEN").arg(&self.keys.handoff);
        count.cmd("ZCARD").arg(&self.keys.scheduled).cmd("HLEN").arg(&self.keys.parked);
        count.cmd("ZCARD").arg(&self.keys.dead);
        let (waiting, handoff, scheduled, parked, dead): (u64, u64, u64, u64, u64) =
            self.db.run(async |connection| count.query_async(connection).await).await?;
        Ok(Counts { waiting: waiting + handoff, scheduled, parked, dead })
    }
}
