//! The client of one queue.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redial_core::db::keys::DEFAULT_PREFIX;
use redial_core::protocol::task::Limit;
use redial_core::queue::cancel::Cancelled;
use redial_core::queue::once::TaskFingerprint;
use redial_core::queue::partitions::PartOfTasks;
use redial_core::schedule::{Schedule, Schedules, When};
use redial_core::{
    AnswerStream, Db, EntryId, EventFeed, EventReader, Queue, QueueName, StreamReader, TaskEventReader, TaskId, UnixMs,
};

use crate::prepare::prepare_all;
use crate::results::Hubs;
use crate::{Completed, Error, IntoTask, PreparedTask, Results};

/// A client of one queue: enqueues calls and waits for their results. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    queue: Queue,
    hubs: Arc<Hubs>,
    reader: StreamReader,
    events: EventFeed,
    clock_gap: Arc<ClockGap>,
}

/// How far Redis's clock is ahead of this machine's, as last measured.
#[derive(Debug, Default)]
struct ClockGap(Mutex<Option<(Instant, i64)>>);

impl ClockGap {
    /// How long a measurement counts.
    const MAX_AGE: Duration = Duration::from_secs(60);

    /// In ms. Without an answer from Redis it counts as none: only a push has to succeed.
    async fn ahead_ms(&self, db: &Db) -> i64 {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, gap)) = last.filter(|(at, _)| at.elapsed() < Self::MAX_AGE) {
            return gap;
        }
        let Ok(redis) = db.now().await else { return 0 };
        let local = UnixMs::local_now();
        let (ahead, behind) = (redis.since(local), local.since(redis));
        let gap = i64::try_from(ahead).unwrap_or(0) - i64::try_from(behind).unwrap_or(0);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), gap));
        gap
    }
}

impl Client {
    /// A client of the queue `queue` of the Redis at `url`. It connects when it is first used.
    ///
    /// The URL is `redis://`, `rediss://` (TLS) or `unix://`, `redis-cluster://host:port,host:port` for a Cluster, or
    /// `redis-sentinel://host:port,host:port/master-name`.
    ///
    /// # Errors
    /// The URL or the name of the queue is invalid.
    pub fn open(url: &str, queue: &str) -> Result<Self, Error> {
        Self::with_prefix(url, DEFAULT_PREFIX, queue)
    }

    /// The same for keys that begin with `prefix` instead of `redial`.
    ///
    /// # Errors
    /// The URL or the name of the queue is invalid.
    pub fn with_prefix(url: &str, prefix: &str, queue: &str) -> Result<Self, Error> {
        let queue = Db::open(url, prefix)?.queue(QueueName::new(queue)?);
        let (reader, events) = (StreamReader::new(queue.clone()), EventFeed::new(queue.clone()));
        Ok(Self { hubs: Arc::default(), reader, events, queue, clock_gap: Arc::default() })
    }

    /// A client of another queue of the same Redis, over the same connection; waiting for its results takes one of its own, and reading streams others.
    #[must_use]
    pub fn of_queue(&self, queue: QueueName) -> Self {
        let queue = self.queue.db().queue(queue);
        let (reader, events) = (StreamReader::new(queue.clone()), EventFeed::new(queue.clone()));
        Self { hubs: Arc::default(), reader, events, queue, clock_gap: self.clock_gap.clone() }
    }

    /// Checks a task, a [`Call`](crate::Call) or JSON, and pushes it to the queue. Returns its id.
    ///
    /// # Errors
    /// The task is invalid, or Redis is unreachable or refuses the command.
    pub async fn enqueue(&self, task: impl IntoTask) -> Result<TaskId, Error> {
        let task = task.into_task()?;
        self.push(std::slice::from_ref(&task)).await?;
        Ok(task.id)
    }

    /// Checks tasks and, if all of them are valid, pushes them in order, many at a time. Returns their ids.
    ///
    /// # Errors
    /// A task is invalid, or Redis is unreachable or refuses a command. In the latter case the first tasks may be on the queue already.
    pub async fn enqueue_all<T: IntoTask>(&self, tasks: impl IntoIterator<Item = T>) -> Result<Vec<TaskId>, Error> {
        let tasks = prepare_all(tasks)?;
        self.push(&tasks).await?;
        Ok(tasks.into_iter().map(|task| task.id).collect())
    }

    /// Pushes a task and waits for its result. Returns `None` after the timeout; the task itself goes on. The result of an earlier task
    /// with the same id is deleted first.
    ///
    /// # Errors
    /// The task is invalid, or Redis is unreachable or refuses a command.
    pub async fn enqueue_and_wait(&self, task: impl IntoTask, timeout: Duration) -> Result<Option<Completed>, Error> {
        let results = self.enqueue_all_and_wait([task]).await?;
        self.single(results, timeout).await
    }

    /// Pushes tasks and streams their results as they arrive.
    ///
    /// # Errors
    /// As for [`Client::enqueue_all`].
    pub async fn enqueue_all_and_wait<T: IntoTask>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Results, Error> {
        let tasks = prepare_all(tasks)?;
        self.forget_results(&tasks).await?;
        let spread = self.spread(&tasks).await?;
        let ids = |of_part: &PartOfTasks| of_part.of(&tasks).into_iter().map(|task| task.id.clone()).collect();
        let results = self.hubs.wait(spread.iter().map(|of_part| (of_part.part.clone(), ids(of_part)))).await?;
        self.push_prepared(&tasks, &spread).await?;
        Ok(results)
    }

    /// Waits for the result of a task, whoever enqueued it. Returns `None` after the timeout; the task itself goes on.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn wait(&self, id: &TaskId, timeout: Duration) -> Result<Option<Completed>, Error> {
        let results = self.wait_all([id.clone()]).await?;
        self.single(results, timeout).await
    }

    /// Streams the results of tasks, whoever enqueued them, as they arrive. Those that exist already come first.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn wait_all(&self, ids: impl IntoIterator<Item = TaskId>) -> Result<Results, Error> {
        let ids: HashSet<TaskId> = ids.into_iter().collect();
        let ids: Vec<TaskId> = ids.into_iter().collect();
        // Another program may have pushed them to any partition.
        let parts = self.queue.parts().await?;
        self.hubs.wait(parts.into_iter().map(|part| (part, ids.clone()))).await
    }

    /// Reads the answer of a call with [`stream`](crate::Call::stream) while it arrives, whoever enqueued it: from behind the entry `after`,
    /// or all of it from [`EntryId::START`].
    pub fn stream(&self, id: &TaskId, after: EntryId) -> AnswerStream {
        self.reader.read(id, after)
    }

    /// Reads what happens to the queue's tasks, as it happens: from behind an entry, or all that is kept from [`EntryId::START`].
    pub fn events(&self, after: EntryId) -> EventReader {
        self.events.read(after)
    }

    /// Reads what has happened to a task, and what happens to it until it is done. Returns `None` if the task is not among the
    /// first `limit` tasks of each state.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn task_events(&self, id: &TaskId, limit: usize) -> Result<Option<TaskEventReader>, Error> {
        Ok(TaskEventReader::open(&self.events, &self.queue, id.clone(), limit).await?)
    }

    /// The result of a task; `None` if the task has not finished, or its result has expired.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn result(&self, id: &TaskId) -> Result<Option<Completed>, Error> {
        Ok(self.queue.result(id).await?.map(|json| Completed { id: id.clone(), json }))
    }

    /// Pushes tasks that have been [prepared](crate::prepare) in order, many at a time. Results of earlier tasks with the same ids are
    /// deleted first, so that nobody takes them for results of these tasks.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command. The first tasks may be on the queue already.
    pub async fn push(&self, tasks: &[PreparedTask]) -> Result<(), Error> {
        self.forget_results(tasks).await?;
        self.push_prepared(tasks, &self.spread(tasks).await?).await
    }

    /// Pushes a prepared task unless one was pushed under its id in this way within `keep`: for a producer that may have lost the reply
    /// to an earlier push. Returns `false`, and pushes nothing, if that one had another fingerprint.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Sending it again pushes nothing twice.
    pub async fn push_once(
        &self,
        task: &PreparedTask,
        fingerprint: TaskFingerprint,
        keep: Duration,
    ) -> Result<bool, Error> {
        Ok(self.part_pushed_to(task, fingerprint, keep).await?.is_some())
    }

    /// The same, and waits for the result. Returns `None`, and pushes nothing, if the earlier task had another fingerprint.
    ///
    /// # Errors
    /// As for [`push_once`](Self::push_once).
    pub async fn push_once_and_wait(
        &self,
        task: &PreparedTask,
        fingerprint: TaskFingerprint,
        keep: Duration,
    ) -> Result<Option<Results>, Error> {
        let ids = vec![task.id.clone()];
        if self.queue.parts().await?.len() == 1 {
            // Both at once: a result that is there before someone waits for it is found.
            let wait = Box::pin(self.hubs.wait([(self.queue.single(), ids)]));
            let (pushed, results) = tokio::join!(Box::pin(self.push_once(task, fingerprint, keep)), wait);
            return Ok(if pushed? { Some(results?) } else { None });
        }
        match Box::pin(self.part_pushed_to(task, fingerprint, keep)).await? {
            Some(part) => Ok(Some(Box::pin(self.hubs.wait([(part, ids)])).await?)),
            None => Ok(None),
        }
    }

    async fn part_pushed_to(
        &self,
        task: &PreparedTask,
        fingerprint: TaskFingerprint,
        keep: Duration,
    ) -> Result<Option<Queue>, Error> {
        let json = task.json_at(self.clock_gap.ahead_ms(self.queue.db()).await).into_owned();
        Ok(self.queue.enqueue_once(&task.id, fingerprint, keep, json).await?)
    }

    async fn spread(&self, tasks: &[PreparedTask]) -> Result<Vec<PartOfTasks>, Error> {
        Ok(self.queue.spread(tasks.len(), |at| &tasks[at].id).await?)
    }

    async fn push_prepared(&self, tasks: &[PreparedTask], spread: &[PartOfTasks]) -> Result<(), Error> {
        let ahead_ms = self.clock_gap.ahead_ms(self.queue.db()).await;
        let tasks: Vec<_> = tasks.iter().map(|task| task.json_at(ahead_ms)).collect();
        let tasks: Vec<&[u8]> = tasks.iter().map(|task| task.as_bytes()).collect();
        Ok(self.queue.enqueue_spread(&tasks, spread).await?)
    }

    /// Deletes results and streams of earlier tasks with the ids of these. Ids that were made up for them have none.
    async fn forget_results(&self, tasks: &[PreparedTask]) -> Result<(), Error> {
        let ids: Vec<&TaskId> = tasks.iter().filter(|task| task.has_own_id).map(|task| &task.id).collect();
        self.queue.forget_results(&ids).await?;
        let with_stream = tasks.iter().filter(|task| task.has_own_id && task.has_stream);
        Ok(self.queue.forget_streams(&with_stream.map(|task| &task.id).collect::<Vec<_>>()).await?)
    }

    /// Cancels a task wherever it is, at once: it becomes a dead letter with the reason `cancelled`. A call in flight is aborted at
    /// once, and its answer is dropped. There is no index of ids: up to `limit` tasks in each state are searched.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command, or the task kept moving ([`Error::TaskMoving`]). Safe to repeat.
    pub async fn cancel(&self, id: &TaskId, limit: usize) -> Result<Cancelled, Error> {
        Ok(self.queue.cancel(id, limit).await?)
    }

    /// Has the workers push a task at each time of a cron expression, in a time zone such as `Europe/Berlin`, by default UTC. Replaces
    /// the schedule with this name. Returns when it fires next.
    ///
    /// # Errors
    /// The name, expression, time zone or task is invalid, or Redis is unreachable or refuses a command.
    pub async fn schedule(
        &self,
        name: &str,
        cron: &str,
        tz: Option<&str>,
        task: impl IntoScheduledTask,
    ) -> Result<UnixMs, Error> {
        let when = When::new(cron, tz)?;
        Ok(Schedules::new(self.queue.clone()).add(name, &when, &task.into_scheduled_task()?).await?)
    }

    /// Removes a schedule; tasks that it has pushed go on. Returns `false` if no schedule has this name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unschedule(&self, name: &str) -> Result<bool, Error> {
        Ok(Schedules::new(self.queue.clone()).remove(name).await?)
    }

    /// The schedules of the queue, sorted by name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, or a schedule cannot be read.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        Ok(Schedules::new(self.queue.clone()).list().await?)
    }

    /// Defines a limit for the whole fleet, in place of what the configuration and tasks say. It takes effect at once, also for tasks
    /// that wait for it. `cost` and `usage` are properties of a call and have no effect here.
    ///
    /// # Errors
    /// The definition is invalid, or Redis is unreachable or refuses a command.
    pub async fn set_limit(&self, limit: &Limit) -> Result<(), Error> {
        limit.check()?;
        Ok(self.queue.db().limits().set(limit).await?)
    }

    /// Removes a definition made by [`Client::set_limit`], so that configuration and tasks define the limit again. Returns `false` if
    /// there was none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn unset_limit(&self, name: &str) -> Result<bool, Error> {
        Ok(self.queue.db().limits().unset(name).await?)
    }

    /// The queue itself, for operators: counts, dead letters, pausing.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The only result of a stream. After the timeout it looks once more, so that a failing Redis is not mistaken for an unfinished
    /// task.
    async fn single(&self, mut results: Results, timeout: Duration) -> Result<Option<Completed>, Error> {
        if let Ok(completed) = tokio::time::timeout(timeout, results.next()).await {
            return Ok(completed);
        }
        match results.outstanding().iter().next() {
            Some(id) => self.result(id).await,
            None => Ok(None),
        }
    }
}

/// What a schedule can push: a [`Call`](crate::Call) or a task as JSON.
pub trait IntoScheduledTask {
    /// The task as JSON, without an id: each firing gets its own.
    ///
    /// # Errors
    /// A value of the call cannot be serialized.
    fn into_scheduled_task(self) -> Result<String, Error>;
}

impl IntoScheduledTask for crate::Call {
    fn into_scheduled_task(self) -> Result<String, Error> {
        self.into_json()
    }
}

impl IntoScheduledTask for &str {
    fn into_scheduled_task(self) -> Result<String, Error> {
        Ok(self.to_owned())
    }
}

impl IntoScheduledTask for &String {
    fn into_scheduled_task(self) -> Result<String, Error> {
        Ok(self.clone())
    }
}
