//! A batch at its queue: tasks pushed once however often they are sent, and answers taken off one list.

use crate::db::{BLOCK_TIMEOUT, Link};
use crate::script::task::EnqueueOnce;
use crate::{Error, Queue, TaskId};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// How long Redis keeps the mark of a batch that stands still: a week.
pub const KEPT_MS: u64 = 7 * DAY_MS;
/// How long the results of its tasks are kept, if they are not taken. Longer than the mark, so that a line that the mark says
/// was pushed is on the queue or has its result.
pub const RESULT_KEPT_MS: u64 = KEPT_MS + DAY_MS;
/// The most tasks of one push.
pub const PUSH: usize = 500;
/// The most keys of one `MGET` or `UNLINK`.
const KEYS: usize = 500;

/// One batch. Its task ids are `<batch id>-<line>`.
#[derive(Debug)]
pub struct Batch {
    queue: Queue,
    waiter: Link,
    id: String,
    replies: String,
    mark: String,
}

impl Batch {
    /// The batch `id` at `queue`.
    pub fn new(queue: Queue, id: &str) -> Self {
        let (replies, mark) = (queue.keys().batch_replies(id), queue.keys().batch_checkpoint(id));
        Self { waiter: queue.db.blocking_link(), queue, id: id.to_owned(), replies, mark }
    }

    /// The name of the task of a line.
    ///
    /// # Errors
    /// [`Error::Name`] when the batch's id is no part of one.
    pub fn task_id(&self, line: u64) -> Result<TaskId, Error> {
        TaskId::new(&format!("{}-{line}", self.id)).map_err(Error::Name)
    }

    /// The line of a task of this batch.
    pub fn line_of(&self, task: &str) -> Option<u64> {
        task.strip_prefix(&self.id)?.strip_prefix('-')?.parse().ok()
    }

    /// The list that gets the answers, in the queue's slot.
    pub fn replies(&self) -> &str {
        &self.replies
    }

    /// The last line that was pushed, and 0 for none; keeps that knowledge for another week.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn mark(&self) -> Result<u64, Error> {
        let mut get = redis::cmd("GETEX");
        get.arg(&self.mark).arg("PX").arg(KEPT_MS);
        let mark: Option<u64> = self.queue.db.run(async |connection| get.query_async(connection).await).await?;
        Ok(mark.unwrap_or(0))
    }

    /// Pushes at most [`PUSH`] tasks, the lines after `before` up to `after`, unless they were pushed already. Returns the
    /// mark as it stands: `after` when they are on the queue.
    ///
    /// # Errors
    /// That of Redis; sent again, it pushes nothing twice.
    pub async fn push(&self, before: u64, after: u64, tasks: &[String]) -> Result<u64, Error> {
        let (waiting, checkpoint) = (&self.queue.keys.waiting, &self.mark);
        self.queue.db.call(&EnqueueOnce { waiting, checkpoint, before, after, ttl_ms: KEPT_MS, tasks }).await
    }

    /// Takes up to `most` answers off the list, oldest first.
    ///
    /// # Errors
    /// That of Redis; what it had taken off is still under [`results`](Self::results).
    pub async fn take(&self, most: usize) -> Result<Vec<String>, Error> {
        let mut pop = redis::cmd("RPOP");
        pop.arg(&self.replies).arg(most);
        let taken: Option<Vec<String>> =
            self.queue.db.run(async |connection| pop.query_async(connection).await).await?;
        Ok(taken.unwrap_or_default())
    }

    /// Waits for an answer, for at most [`BLOCK_TIMEOUT`], and takes it off the list.
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

    /// The results that are there of the tasks of these lines.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn results(&self, lines: &[u64]) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for keys in self.keys(lines)?.chunks(KEYS) {
            let mut get = redis::cmd("MGET");
            get.arg(keys);
            let results: Vec<Option<String>> =
                self.queue.db.run(async |connection| get.query_async(connection).await).await?;
            found.extend(results.into_iter().flatten());
        }
        Ok(found)
    }

    /// Deletes results that are kept elsewhere by now.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget(&self, lines: &[u64]) -> Result<(), Error> {
        for keys in self.keys(lines)?.chunks(KEYS) {
            self.unlink(keys).await?;
        }
        Ok(())
    }

    /// Deletes what the batch kept for itself.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn end(&self) -> Result<(), Error> {
        self.unlink(&[self.replies.clone(), self.mark.clone()]).await
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
