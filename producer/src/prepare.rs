//! From a call or a JSON text to a checked task with an id.

use std::fmt::Write as _;

use redial_core::protocol::task::{MAX_BYTES, Task};
use redial_core::{TaskId, UnixMs};

use crate::{Call, Error};

/// A checked task with its id, as it will be pushed.
#[derive(Debug, Clone)]
pub struct PreparedTask {
    /// The task's id: its own, or a new UUIDv7.
    pub id: TaskId,
    /// The task as JSON.
    pub json: String,
}

/// What can be enqueued: a [`Call`], a task as JSON, or a [`PreparedTask`].
pub trait IntoTask {
    /// Checks the task and prepares it for the push.
    ///
    /// # Errors
    /// The task is invalid, or a value of it cannot be serialized.
    fn into_task(self) -> Result<PreparedTask, Error>;
}

/// Checks a task and adds what it lacks: an id, and the time. The rest is kept byte for byte.
///
/// # Errors
/// The task is invalid ([`Error::InvalidTask`]).
pub fn prepare(json: &str) -> Result<PreparedTask, Error> {
    let task = Task::parse(json.as_bytes(), MAX_BYTES)?;
    let mut added = String::new();
    let id = task.id.unwrap_or_else(|| {
        let id = TaskId::random();
        added = format!("\"id\":\"{id}\",");
        id
    });
    if task.enqueued_at.is_none() {
        let _ = write!(added, "\"enqueued_at_ms\":{},", UnixMs::local_now());
    }
    // It parsed, so it is an object with at least a URL.
    let rest = json.trim_start().strip_prefix('{').unwrap_or_default();
    let json = format!("{{{added}{rest}");
    // Only two things can make a valid task invalid: an added field that it has as null, and the added bytes.
    if json.contains("null") || json.len() > MAX_BYTES {
        Task::parse(json.as_bytes(), MAX_BYTES)?;
    }
    Ok(PreparedTask { id, json })
}

pub(crate) fn prepare_all<T: IntoTask>(tasks: impl IntoIterator<Item = T>) -> Result<Vec<PreparedTask>, Error> {
    let prepare = |(index, task): (usize, T)| task.into_task().map_err(|error| error.at(index));
    tasks.into_iter().enumerate().map(prepare).collect()
}

impl IntoTask for Call {
    fn into_task(self) -> Result<PreparedTask, Error> {
        prepare(&self.into_json()?)
    }
}

impl IntoTask for &str {
    fn into_task(self) -> Result<PreparedTask, Error> {
        prepare(self)
    }
}

impl IntoTask for &String {
    fn into_task(self) -> Result<PreparedTask, Error> {
        prepare(self)
    }
}

impl IntoTask for String {
    fn into_task(self) -> Result<PreparedTask, Error> {
        prepare(&self)
    }
}

impl IntoTask for PreparedTask {
    fn into_task(self) -> Result<PreparedTask, Error> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_keeps_its_bytes_and_gets_what_it_lacks() -> Result<(), Error> {
        let json = r#" {"url": "http://h/",  "body":{"n":9007199254740993}}"#;
        let prepared = prepare(json)?;
        assert!(prepared.json.starts_with(&format!("{{\"id\":\"{}\",\"enqueued_at_ms\":", prepared.id)));
        assert!(prepared.json.ends_with(r#","url": "http://h/",  "body":{"n":9007199254740993}}"#));
        let again = prepare(&prepared.json)?;
        assert_eq!((again.id, again.json), (prepared.id, prepared.json));
        Ok(())
    }

    #[test]
    fn an_invalid_task_is_refused_before_the_push() {
        let refused = prepare(r#"{"url":"nowhere"}"#);
        assert!(refused.is_err_and(|error| error.to_string().contains("`url`")));
        let duplicate = prepare(r#"{"url":"http://h/","id":null}"#);
        assert!(duplicate.is_err_and(|error| error.to_string().contains("duplicate field `id`")));
        let third = prepare_all([r#"{"url":"http://h/"}"#, r#"{"url":"http://h/"}"#, "{}"]);
        assert!(third.is_err_and(|error| error.to_string().starts_with("task 3: missing field")));
    }
}
