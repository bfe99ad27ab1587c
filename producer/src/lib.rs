//! Redial's front door for Rust programs: put calls on a queue, wait for the answers.
//!
//! Any language can do the same with one `LPUSH`; this adds a check before the push, an id, a time stamp, and waiting for any
//! number of answers over one connection, without polling.
//!
//! This program is `examples/src/calls.rs`, and a test runs it:
#![doc = "```no_run"]
#![doc = include_str!("../../examples/src/calls.rs")]
#![doc = "```"]

mod call;
mod wait;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use redial_core::protocol::task::{self, Task};
pub use redial_core::queue::cancel::Cancelled;
use redial_core::schedule::{Schedule, Schedules, When};
use redial_core::{Db, Queue, QueueName, TaskId, UnixMs};

pub use call::{Call, IntoTask};
use wait::Hub;
pub use wait::{Answered, Answers};

/// What can go wrong on the way to the queue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task can't be taken; nothing was pushed.
    #[error("{0}")]
    Task(String),
    /// The schedule can't work; nothing was changed.
    #[error("{0}")]
    Schedule(String),
    /// Redis, or the way to it.
    #[error(transparent)]
    Redis(#[from] redial_core::Error),
}

/// A queue to put calls on.
#[derive(Debug, Clone)]
pub struct Producer {
    queue: Queue,
    hub: Arc<Hub>,
}

/// A task that was checked, with its id, as it will be pushed.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// The task's id: its own, or the one it was given.
    pub id: TaskId,
    /// The task as JSON.
    pub json: String,
}

impl Producer {
    /// The queue `queue` of the Redis at `url`, under the usual prefix. Connects at the first use.
    ///
    /// # Errors
    /// The address or the name can't be used.
    pub fn open(url: &str, queue: &str) -> Result<Self, Error> {
        Self::with_prefix(url, redial_core::db::keys::DEFAULT_PREFIX, queue)
    }

    /// The same under another prefix.
    ///
    /// # Errors
    /// The address or the name can't be used.
    pub fn with_prefix(url: &str, prefix: &str, queue: &str) -> Result<Self, Error> {
        let queue = Db::open(url, prefix)?.queue(QueueName::new(queue)?);
        Ok(Self { hub: Arc::new(Hub::new(redial_core::Waiter::new(queue.clone()))), queue })
    }

    /// Checks one task, a [`Call`] or JSON, and pushes it. Returns its id.
    ///
    /// # Errors
    /// What is wrong with the task, or with Redis.
    pub async fn enqueue(&self, task: impl IntoTask) -> Result<TaskId, Error> {
        let stamped = task.into_task()?;
        self.push(std::slice::from_ref(&stamped)).await?;
        Ok(stamped.id)
    }

    /// Checks tasks, all of them before the first is pushed, and pushes them in order, many at a time. Returns their ids.
    ///
    /// # Errors
    /// What is wrong with the first wrong task; or that of Redis, and then the first tasks may be on the queue already.
    pub async fn enqueue_all<T: IntoTask>(&self, tasks: impl IntoIterator<Item = T>) -> Result<Vec<TaskId>, Error> {
        let stamped = stamp_all(tasks)?;
        self.push(&stamped).await?;
        Ok(stamped.into_iter().map(|task| task.id).collect())
    }

    /// Pushes one task and waits for its answer, good or not; `None`: none came in time, and the task goes on. An id that was
    /// used before and still has its result gets that at once.
    ///
    /// # Errors
    /// What is wrong with the task, or with Redis.
    pub async fn enqueue_and_wait(&self, task: impl IntoTask, timeout: Duration) -> Result<Option<Answered>, Error> {
        let mut answers = self.enqueue_all_and_wait([task]).await?;
        wait::one(self, &mut answers, timeout).await
    }

    /// Pushes tasks and gives their answers as they come.
    ///
    /// # Errors
    /// As for [`Producer::enqueue_all`].
    pub async fn enqueue_all_and_wait<T: IntoTask>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Answers, Error> {
        let stamped = stamp_all(tasks)?;
        let answers = self.wait_all(stamped.iter().map(|task| task.id.clone())).await?;
        self.push(&stamped).await?;
        Ok(answers)
    }

    /// Waits for the answer to a task, whoever pushed it. `None`: none came in time; the task goes on.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn wait(&self, id: &TaskId, timeout: Duration) -> Result<Option<Answered>, Error> {
        let mut answers = self.wait_all([id.clone()]).await?;
        wait::one(self, &mut answers, timeout).await
    }

    /// The answers to many tasks, whoever pushed them, as they come: first those that are there already.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn wait_all(&self, ids: impl IntoIterator<Item = TaskId>) -> Result<Answers, Error> {
        Hub::wait(&self.hub, ids).await
    }

    /// Pushes tasks that were checked, in order, many at a time.
    ///
    /// # Errors
    /// That of Redis; the first tasks may be on the queue already.
    pub async fn push(&self, tasks: &[Stamped]) -> Result<(), Error> {
        let lines: Vec<&str> = tasks.iter().map(|task| task.json.as_str()).collect();
        Ok(self.queue.enqueue(&lines).await?)
    }

    /// The result of a task as JSON, or `None` when there is none: not yet, or no longer.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn result(&self, id: &TaskId) -> Result<Option<String>, Error> {
        Ok(self.queue.result(id).await?)
    }

    /// Cancels a task wherever it is, at once: it becomes a dead letter with the reason `cancelled`, and so says its result. A
    /// call in flight is given up within two seconds, and its answer is dropped. There is no index of ids: up to `most` tasks of
    /// each place are looked at.
    ///
    /// # Errors
    /// That of Redis. Safe to ask again.
    pub async fn cancel(&self, id: &TaskId, most: usize) -> Result<Cancelled, Error> {
        Ok(self.queue.cancel(id, most).await?)
    }

    /// Has the fleet push a task at each time of a cron expression, by the clock of a time zone such as `Europe/Berlin` or else
    /// in UTC. Puts it in place of a schedule of this name. Returns when it fires next.
    ///
    /// # Errors
    /// What is wrong with name, expression, zone or task; or that of Redis.
    pub async fn schedule(&self, name: &str, cron: &str, tz: Option<&str>, task: &str) -> Result<UnixMs, Error> {
        let when = When::new(cron, tz).map_err(Error::Schedule)?;
        Ok(Schedules::new(self.queue.clone()).add(name, &when, task).await?)
    }

    /// Takes a schedule away; what it has pushed goes on. `false`: there is none of this name.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn unschedule(&self, name: &str) -> Result<bool, Error> {
        Ok(Schedules::new(self.queue.clone()).remove(name).await?)
    }

    /// The schedules of the queue, by name.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        Ok(Schedules::new(self.queue.clone()).list().await?)
    }

    /// The queue itself, for what operators do.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

fn stamp_all<T: IntoTask>(tasks: impl IntoIterator<Item = T>) -> Result<Vec<Stamped>, Error> {
    let nth = |(n, task): (usize, T)| {
        task.into_task().map_err(|error| match error {
            Error::Task(why) if n > 0 => Error::Task(format!("task {}: {why}", n + 1)),
            other => other,
        })
    };
    tasks.into_iter().enumerate().map(nth).collect()
}

/// Checks a task, and puts in what it lacks: an id, and when it was enqueued. The rest stays byte for byte.
///
/// # Errors
/// What is wrong with the task.
pub fn stamp(json: &str) -> Result<Stamped, Error> {
    let task = Task::parse(json.as_bytes(), task::MAX_BYTES).map_err(|refusal| Error::Task(refusal.error))?;
    let mut added = String::new();
    let id = task.id.unwrap_or_else(|| {
        let id = TaskId::random();
        added = format!("\"id\":\"{id}\",");
        id
    });
    if task.enqueued_at.is_none() {
        let _ = write!(added, "\"enqueued_at_ms\":{},", UnixMs::local_now());
    }
    // What was parsed is an object with at least a URL in it.
    let body = json.trim_start().strip_prefix('{').unwrap_or_default();
    let json = format!("{{{added}{body}");
    // Only these can make a good task a bad one: a field that was there as null, and what was put in going over the bound.
    if json.contains("null") || json.len() > task::MAX_BYTES {
        Task::parse(json.as_bytes(), task::MAX_BYTES).map_err(|refusal| Error::Task(refusal.error))?;
    }
    Ok(Stamped { id, json })
}

/// Adds a field to a task that has one at least and ends with its brace; the value stays byte for byte as it is given.
pub fn add_field(task: &mut String, field: &str, json: &str) {
    task.pop();
    let _ = write!(task, ",\"{field}\":{json}}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_keeps_its_bytes_and_gets_what_it_lacks() -> Result<(), Error> {
        let given = r#" {"url": "http://h/",  "body":{"n":9007199254740993}}"#;
        let stamped = stamp(given)?;
        assert!(stamped.json.starts_with(&format!("{{\"id\":\"{}\",\"enqueued_at_ms\":", stamped.id)));
        assert!(stamped.json.ends_with(r#","url": "http://h/",  "body":{"n":9007199254740993}}"#));
        let again = stamp(&stamped.json)?;
        assert_eq!((again.id, again.json), (stamped.id, stamped.json));
        Ok(())
    }

    #[test]
    fn a_wrong_task_is_refused_before_the_push() {
        let refused = stamp(r#"{"url":"nowhere"}"#);
        assert!(refused.is_err_and(|error| error.to_string().contains("`url`")));
        let twice = stamp(r#"{"url":"http://h/","id":null}"#);
        assert!(twice.is_err_and(|error| error.to_string().contains("duplicate field `id`")));
    }
}
