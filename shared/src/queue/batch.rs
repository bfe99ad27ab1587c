//! A batch: tasks that are pushed once however often they are sent, and answers taken from one list.
//!
//! Over how many partitions its tasks are spread is decided when it begins. Each part of the queue has a checkpoint of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::db::partition_map::home;
use crate::db::{BLOCK_TIMEOUT, Link};
use crate::script::push_checkpoint::PushCheckpoint;
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
    progress: Mutex<PushProgress>,
}

/// Where the tasks of a batch are.
#[derive(Debug, Default)]
struct PushProgress {
    /// The parts of the queue over which they are spread, each with the last line that was pushed there; none before they are known.
    parts: Vec<(Queue, u64)>,
    /// The last line that was pushed.
    last: u64,
}

impl Batch {
    /// The batch `id` on `queue`.
    pub fn new(queue: Queue, id: &str) -> Self {
        let replies = queue.keys().batch_replies(id);
        Self { waiter: queue.db.blocking_link(), queue, id: id.to_owned(), replies, progress: Mutex::default() }
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

    /// The last line that was pushed to each part of the queue, 0 if none was: the first of these, or less than before if Redis has lost
    /// one; otherwise the last line that this process pushed. Renews the time that Redis keeps them.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn checkpoint(&self) -> Result<u64, Error> {
        let mut parts = self.progress().parts.clone();
        let is_first = parts.is_empty();
        if is_first {
            parts = self.parts().await?;
        }
        let (mut first, mut is_lost) = (u64::MAX, false);
        for (part, last) in &mut parts {
            let mut get = redis::cmd("GETEX");
            get.arg(part.keys.batch_checkpoint(&self.id)).arg("PX").arg(CHECKPOINT_TTL_MS);
            let found: Option<u64> = self.queue.db.run(async |connection| get.query_async(connection).await).await?;
            let found = found.unwrap_or(0);
            is_lost |= found < *last;
            first = first.min(found);
            *last = found;
        }
        let mut progress = self.progress();
        if is_first {
            (progress.parts, progress.last) = (parts, first);
        }
        Ok(if is_lost { first } else { progress.last })
    }

    /// Over which parts of the queue the tasks are spread, as was decided when the batch began.
    async fn parts(&self) -> Result<Vec<(Queue, u64)>, Error> {
        let own = self.queue.single();
        let spread = self.queue.parts().await?.len() - 1;
        // A batch that an older release began has its tasks in the queue's own list.
        let mut exists = redis::cmd("EXISTS");
        exists.arg(own.keys.batch_checkpoint(&self.id));
        let is_begun: bool = own.db.run(async |connection| exists.query_async(connection).await).await?;
        let (key, spread) = (own.keys.batch_partitions(&self.id), if is_begun { 0 } else { spread });
        let mut decide = redis::pipe();
        decide.cmd("SET").arg(&key).arg(spread).arg("NX").ignore();
        decide.cmd("GETEX").arg(&key).arg("PX").arg(RESULT_TTL_MS);
        let (spread,): (Option<usize>,) = own.db.run(async |connection| decide.query_async(connection).await).await?;
        match spread.unwrap_or(0) {
            0 => Ok(vec![(own, 0)]),
            count => (0..count).map(|number| Ok((own.partition(number)?, 0))).collect(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, PushProgress> {
        // Nothing panics while it holds the lock.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes at most [`MAX_PUSH`] tasks, those of these lines up to `after`, unless they were pushed already. Call
    /// [`checkpoint`](Self::checkpoint) first. Returns the current checkpoint: `after` if they are on the queue.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Sending it again pushes nothing twice.
    pub async fn push(&self, after: u64, lines: &[u64], tasks: &[String]) -> Result<u64, Error> {
        let parts = self.progress().parts.clone();
        let is_pushed = match &parts[..] {
            [(part, before)] => self.push_to(0, part, (*before, after), tasks).await?,
            parts => self.push_spread(parts, lines, tasks).await?,
        };
        if !is_pushed {
            return Ok(0);
        }
        self.progress().last = after;
        Ok(after)
    }

    async fn push_spread(&self, parts: &[(Queue, u64)], lines: &[u64], tasks: &[String]) -> Result<bool, Error> {
        for (position, (part, before)) in parts.iter().enumerate() {
            let is_here = |line: u64| line > *before && self.position(line, parts.len()).is_ok_and(|at| at == position);
            let here = lines.iter().zip(tasks).filter(|(line, _)| is_here(**line));
            let (lines, tasks): (Vec<u64>, Vec<String>) = here.map(|(line, task)| (*line, task.clone())).unzip();
            if let Some(last) = lines.last()
                && !self.push_to(position, part, (*before, *last), &tasks).await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pushes tasks to a part of the queue, the lines from behind one up to another. Returns whether they are there.
    async fn push_to(
        &self,
        position: usize,
        part: &Queue,
        (before, after): (u64, u64),
        tasks: &[String],
    ) -> Result<bool, Error> {
        let (waiting, checkpoint) = (&part.keys.waiting, &part.keys.batch_checkpoint(&self.id));
        let call = EnqueueOnce { waiting, checkpoint, before, after, ttl_ms: CHECKPOINT_TTL_MS, tasks };
        if self.queue.db.call(&call).await? != PushCheckpoint::At(after) {
            return Ok(false);
        }
        if let Some((_, last)) = self.progress().parts.get_mut(position) {
            *last = after;
        }
        Ok(true)
    }

    /// The part of the queue, of so many, where the task of a line is.
    fn position(&self, line: u64, parts: usize) -> Result<usize, Error> {
        Ok(if parts == 1 { 0 } else { home(&self.task_id(line)?, parts) })
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
        for keys in self.result_keys(lines)? {
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
        for keys in self.result_keys(lines)? {
            self.unlink(&keys).await?;
        }
        Ok(())
    }

    /// Deletes the batch's own keys: the list of answers, the checkpoints, and over how many partitions it is spread.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn end(&self) -> Result<(), Error> {
        let (own, parts) = (self.queue.keys(), self.progress().parts.clone());
        for (part, _) in parts {
            self.unlink(&[part.keys.batch_checkpoint(&self.id)]).await?;
        }
        self.unlink(&[self.replies.clone(), own.batch_checkpoint(&self.id), own.batch_partitions(&self.id)]).await
    }

    async fn unlink(&self, keys: &[String]) -> Result<(), Error> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(keys);
        self.queue.db.run(async |connection| unlink.exec_async(connection).await).await
    }

    /// The keys of the results of these lines, [`MAX_KEYS`] of one part of the queue at a time.
    fn result_keys(&self, lines: &[u64]) -> Result<Vec<Vec<String>>, Error> {
        let parts = self.progress().parts.clone();
        let mut by_part: Vec<Vec<String>> = vec![Vec::new(); parts.len()];
        for line in lines {
            let position = self.position(*line, parts.len())?;
            if let Some((part, _)) = parts.get(position) {
                by_part[position].push(part.keys.result(&self.task_id(*line)?));
            }
        }
        Ok(by_part.iter().flat_map(|keys| keys.chunks(MAX_KEYS)).map(<[String]>::to_vec).collect())
    }
}
