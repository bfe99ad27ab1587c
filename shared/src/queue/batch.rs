//! A batch: tasks that are pushed once however often they are sent, and answers taken from one list.

use crate::db::{BLOCK_TIMEOUT, Link};
use crate::script::task::EnqueueOnce;
use crate::{Error, Queue, TaskId, UnixMs};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// How long Redis keeps the checkpoint of a batch that makes no progress: a week.
pub const CHECKPOINT_TTL_MS: u64 = 7 * DAY_MS;
/// How long the results of its tasks are kept if they are not taken. Longer than the checkpoint, so that every line before the
/// checkpoint is on the queue or has its result.
pub const RESULT_TTL_MS: u64 = CHECKPOINT_TTL_MS + DAY_MS;
/// The maximum number of tasks in one push.
pub const MAX_PUSH: usize = 500;
/// The maximum number of keys in one `MGET` or `UNLINK`.
const MAX_KEYS: usize = 500;

/// One batch. Its task ids are `<batch id>-<line>`.
#[derive(Debug)]
pub struct Batch {
    queue: Queue,
    waiter: Link,
    id: String,
    replies: String,
    checkpoint: String,
}

impl Batch {
    /// The batch `id` on `queue`.
    pub fn new(queue: Queue, id: &str) -> Self {
        let (replies, checkpoint) = (queue.keys().batch_replies(id), queue.keys().batch_checkpoint(id));
        Self { waiter: queue.db.blocking_link(), queue, id: id.to_owned(), replies, checkpoint }
    }

    /// The id of the task of a line.
    ///
    /// # Errors
    /// The batch's id cannot be part of a task id ([`Error::Id`]).
    pub fn task_id(&self, line: u64) -> Result<TaskId, Error> {
        Ok(TaskId::new(&format!("{}-{line}", self.id))?)
    }

    /// The line of a task of this batch.
    pub fn line_of(&self, task: &str) -> Option<u64> {
        task.strip_prefix(&self.id)?.strip_prefix('-')?.parse().ok()
    }

    /// Redis TIME.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn now(&self) -> Result<UnixMs, Error> {
        self.queue.db.now().await
    }

    /// The list that receives the answers, in the queue's slot.
    pub fn replies(&self) -> &str {
        &self.replies
    }

    /// The last line that was pushed, 0 if none was. Renews the time that Redis keeps it.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn checkpoint(&self) -> Result<u64, Error> {
        let mut get = redis::cmd("GETEX");
        get.arg(&self.checkpoint).arg("PX").arg(CHECKPOINT_TTL_MS);
        let checkpoint: Option<u64> = self.queue.db.run(async |connection| get.query_async(connection).await).await?;
        Ok(checkpoint.unwrap_or(0))
    }

    /// Pushes at most [`MAX_PUSH`] tasks, the lines after `before` up to `after`, unless they were pushed already. Returns the
    /// current checkpoint: `after` if they are on the queue.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Sending it again pushes nothing twice.
    pub async fn push(&self, before: u64, after: u64, tasks: &[String]) -> Result<u64, Error> {
        let (waiting, checkpoint) = (&self.queue.keys.waiting, &self.checkpoint);
        self.queue.db.call(&EnqueueOnce { waiting, checkpoint, before, after, ttl_ms: CHECKPOINT_TTL_MS, tasks }).await
    }

    /// Takes up to `limit` answers from the list, oldest first.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Answers that were taken but did not arrive are still among the
    /// [`results`](Self::results).
    pub async fn take(&self, limit: usize) -> Result<Vec<String>, Error> {
        let mut pop = redis::cmd("RPOP");
        pop.arg(&self.replies).arg(limit);
        let taken: Option<Vec<String>> =
            self.queue.db.run(async |connection| pop.query_async(connection).await).await?;
        Ok(taken.unwrap_or_default())
    }

    /// Waits for an answer, for at most [`BLOCK_TIMEOUT`], and takes it from the list.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub async fn wait(&self) -> Result<Option<String>, Error> {
        let mut pop = redis::cmd("BRPOP");
        pop.arg(&self.replies).arg(BLOCK_TIMEOUT.as_secs_f64());
        let taken: Option<(String, String)> =
            self.waiter.run(async |connection| pop.query_async(connection).await).await?;
        Ok(taken.map(|(_, answer)| answer))
    }

    /// The results of those of these lines that have one.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn results(&self, lines: &[u64]) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for keys in self.keys(lines)?.chunks(MAX_KEYS) {
            let mut get = redis::cmd("MGET");
            get.arg(keys);
            let results: Vec<Option<String>> =
                self.queue.db.run(async |connection| get.query_async(connection).await).await?;
            found.extend(results.into_iter().flatten());
        }
        Ok(found)
    }

    /// Deletes the results of these lines, which the caller has stored elsewhere.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget(&self, lines: &[u64]) -> Result<(), Error> {
        for keys in self.keys(lines)?.chunks(MAX_KEYS) {
            self.unlink(keys).await?;
        }
        Ok(())
    }

    /// Deletes the batch's own keys: the list of answers and the checkpoint.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn end(&self) -> Result<(), Error> {
        self.unlink(&[self.replies.clone(), self.checkpoint.clone()]).await
    }

    async fn unlink(&self, keys: &[String]) -> Result<(), Error> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(keys);
        self.queue.db.run(async |connection| unlink.exec_async(connection).await).await
    }

    fn keys(&self, lines: &[u64]) -> Result<Vec<String>, Error> {
        lines.iter().map(|line| Ok(self.queue.keys.result(&self.task_id(*line)?))).collect()
    }
}
