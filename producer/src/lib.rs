//! Redial's front door for Rust programs: put calls on a queue, read the answers.
//!
//! Any language can do the same with one `LPUSH`; this adds a check before the push, an id, and a time stamp.
//!
//! ```no_run
//! # async fn example() -> Result<(), redial_producer::Error> {
//! let producer = redial_producer::Producer::open("redis://127.0.0.1:6379", "default")?;
//! let id = producer.enqueue(r#"{"url":"https://api.example.com/v1/extract","body":{"text":"hi"}}"#).await?;
//! if let Some(result) = producer.result(&id).await? {
//!     println!("{result}");
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;

use redial::task::{self, Task};
use redial::{Queue, QueueName, Store, TaskId, UnixMs};

/// What can go wrong on the way to the queue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task can't be taken; nothing was pushed.
    #[error("{0}")]
    Task(String),
    /// Redis, or the way to it.
    #[error(transparent)]
    Redis(#[from] redial::Error),
}

/// A queue to put calls on.
#[derive(Debug, Clone)]
pub struct Producer {
    queue: Queue,
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
        Self::with_prefix(url, redial::keys::DEFAULT_PREFIX, queue)
    }

    /// The same under another prefix.
    ///
    /// # Errors
    /// The address or the name can't be used.
    pub fn with_prefix(url: &str, prefix: &str, queue: &str) -> Result<Self, Error> {
        let store = Store::open(url)?;
        Ok(Self { queue: Queue::new(&store, prefix, QueueName::new(queue)?) })
    }

    /// Checks one task, given as JSON, and pushes it. Returns its id.
    ///
    /// # Errors
    /// What is wrong with the task, or with Redis.
    pub async fn enqueue(&self, json: &str) -> Result<TaskId, Error> {
        let stamped = stamp(json)?;
        self.push(std::slice::from_ref(&stamped)).await?;
        Ok(stamped.id)
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

    /// The queue itself, for what operators do.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

/// Checks a task, and puts in what it lacks: an id, and when it was enqueued. The rest stays byte for byte.
///
/// # Errors
/// What is wrong with the task.
pub fn stamp(json: &str) -> Result<Stamped, Error> {
    let task = Task::parse(json.as_bytes(), task::MAX_BYTES).map_err(|refusal| Error::Task(refusal.error))?;
    let mut added = String::new();
    let id = task.id.unwrap_or_else(|| {
        let id = TaskId::fresh();
        added = format!("\"id\":\"{id}\",");
        id
    });
    if task.enqueued_at.is_none() {
        let _ = write!(added, "\"enqueued_at_ms\":{},", UnixMs::local());
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
