//! A queue as producers and operators use it: enqueue, results, counts; search, cancellation, dead letters, batches; its partitions.

pub mod admin;
pub mod backlog;
pub mod batch;
pub mod batch_progress;
pub mod cancel;
pub mod dead;
pub mod dead_groups;
pub mod dead_page;
pub mod dead_search;
pub mod dead_walk;
pub mod entry;
pub mod find;
mod idle;
pub mod list;
pub mod once;
pub mod partitions;
pub mod waiter;
pub mod waits;

use std::sync::Arc;

use crate::db::Db;
use crate::db::keys::QueueKeys;
use crate::{Error, QueueName, TaskId};

/// The maximum number of tasks in one `LPUSH`: a larger one would hold up every other client of the node.
const MAX_PUSH_TASKS: usize = 1_000;
/// Roughly the maximum number of bytes in one `LPUSH`, for the same reason.
const MAX_PUSH_BYTES: usize = 1 << 20;

/// A queue. Its clones and the other queues of its [`Db`] share one connection.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) name: QueueName,
    pub(crate) keys: Arc<QueueKeys>,
    pub(crate) db: Db,
    /// Only what is under its own keys is meant, whether or not it has partitions.
    pub(crate) is_single: bool,
}

/// How many tasks are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pushed and not yet claimed.
    pub waiting: u64,
    /// Waiting for a retry, a delay or a rate limit.
    pub scheduled: u64,
    /// Parked until the leader of their memo has its answer, or until their upstream recovers.
    pub parked: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Counts {
    fn new(waiting: u64, handoff: u64, scheduled: u64, stored: u64, dead: u64) -> Self {
        // A task that ends while it is scheduled leaves its serial there for a moment, hence the saturation.
        let parked = stored.saturating_sub(scheduled);
        Self { waiting: waiting + handoff, scheduled: scheduled.min(stored), parked, dead }
    }

    fn add(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.scheduled += other.scheduled;
        self.parked += other.parked;
        self.dead += other.dead;
    }
}

impl Db {
    /// The queue `name`.
    pub fn queue(&self, name: QueueName) -> Queue {
        Queue::new(self.clone(), name)
    }
}

impl Queue {
    /// The queue `name`; see [`Db::queue`].
    pub(crate) fn new(db: Db, name: QueueName) -> Self {
        Self { keys: Arc::new(db.keys().for_queue(&name)), db, name, is_single: false }
    }

    /// The Redis that holds the queue.
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

    /// Pushes tasks to the queue's own list, in order and unchecked: an invalid one becomes a dead letter that says what is wrong.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The first tasks may be on the queue already.
    pub async fn enqueue<T: AsRef<[u8]>>(&self, tasks: &[T]) -> Result<(), Error> {
        let mut rest = tasks;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |task: &&T| {
                bytes += task.as_ref().len();
                bytes <= MAX_PUSH_BYTES
            };
            let count = rest.iter().take(MAX_PUSH_TASKS).take_while(fits).count().max(1);
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

    /// The result of a task as JSON; `None` if the task has not finished, or its result has expired.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn result(&self, id: &TaskId) -> Result<Option<String>, Error> {
        for part in self.parts_from_home(id).await? {
            let found = part.result_here(id).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn result_here(&self, id: &TaskId) -> Result<Option<String>, Error> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.result(id));
        self.db.run(async |connection| get.query_async(connection).await).await
    }

    /// Deletes the results of these tasks, if they have any.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget_results(&self, ids: &[&TaskId]) -> Result<(), Error> {
        self.unlink(ids, |keys, id| keys.result(id)).await
    }

    /// Deletes the streams of these tasks, if they have any.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget_streams(&self, ids: &[&TaskId]) -> Result<(), Error> {
        self.unlink(ids, |keys, id| keys.stream(id)).await
    }

    async fn unlink(&self, ids: &[&TaskId], key: impl Fn(&QueueKeys, &TaskId) -> String) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        for (part, ids) in self.parts_of_ids(ids).await? {
            for ids in ids.chunks(MAX_PUSH_TASKS) {
                let mut unlink = redis::cmd("UNLINK");
                for id in ids {
                    unlink.arg(key(&part.keys, id));
                }
                self.db.run(async |connection| unlink.exec_async(connection).await).await?;
            }
        }
        Ok(())
    }

    /// How many tasks are in each state.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let mut sum = Counts::default();
        for part in self.parts().await? {
            sum.add(part.counts_here().await?);
        }
        Ok(sum)
    }

    async fn counts_here(&self) -> Result<Counts, Error> {
        let count = self.ask_counts();
        let (waiting, handoff, scheduled, stored, dead) =
            self.db.run(async |connection| count.query_async(connection).await).await?;
        Ok(Counts::new(waiting, handoff, scheduled, stored, dead))
    }

    /// What [`Counts::new`] takes, in this order.
    fn ask_counts(&self) -> redis::Pipeline {
        let mut count = redis::pipe();
        count.cmd("LLEN").arg(&self.keys.waiting).cmd("LLEN").arg(&self.keys.handoff);
        count.cmd("ZCARD").arg(&self.keys.scheduled).cmd("HLEN").arg(&self.keys.stored);
        count.cmd("ZCARD").arg(&self.keys.dead);
        count
    }

    /// How many tasks lie in a list whose name is that of the queue's key without its braces: no worker claims them.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn pushed_without_braces(&self) -> Result<u64, Error> {
        let (wrong, _) = self.keys_without_and_with_braces();
        let mut kind = redis::cmd("TYPE");
        kind.arg(&wrong);
        let kind: String = self.db.run(async |connection| kind.query_async(connection).await).await?;
        // Of another type, it is somebody else's.
        if kind != "list" {
            return Ok(0);
        }
        let mut length = redis::cmd("LLEN");
        length.arg(&wrong);
        self.db.run(async |connection| length.query_async(connection).await).await
    }

    /// The key of the queue as it is often mistyped, and as it is.
    pub fn keys_without_and_with_braces(&self) -> (String, &str) {
        (self.keys.waiting.replace(['{', '}'], ""), &self.keys.waiting)
    }
}
