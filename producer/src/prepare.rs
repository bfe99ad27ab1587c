//! From a call or a JSON text to a checked task with an id.

use std::borrow::Cow;
use std::fmt::Write as _;

use redial_core::protocol::task::{InvalidTask, MAX_BYTES, ReturnAddress, Task, TaskError};
use redial_core::{TaskId, UnixMs};

use crate::{Call, Error};

/// A checked task with its id, as it will be pushed.
#[derive(Debug, Clone)]
pub struct PreparedTask {
    /// The task's id: its own, or a new UUIDv7.
    pub id: TaskId,
    /// The task as JSON.
    pub json: String,
    /// Whether the producer chose the id, so that an earlier task may have had it.
    pub(crate) has_own_id: bool,
    /// Whether its answer is streamed.
    pub(crate) has_stream: bool,
    /// The time that was added by this machine's clock.
    added_stamp: Option<UnixMs>,
}

impl PreparedTask {
    /// The task as it is pushed: with the time that was added by Redis's clock, which is `ahead_ms` ahead of this machine's.
    pub(crate) fn json_at(&self, ahead_ms: i64) -> Cow<'_, str> {
        match self.added_stamp {
            Some(stamp) if ahead_ms != 0 => {
                let field = |at: UnixMs| format!("\"enqueued_at_ms\":{at},");
                let by_redis = UnixMs(stamp.0.saturating_add_signed(ahead_ms));
                // It was added before everything but the id.
                Cow::Owned(self.json.replacen(&field(stamp), &field(by_redis), 1))
            }
            _ => Cow::Borrowed(&self.json),
        }
    }
}

/// What can be enqueued: a [`Call`], a task as JSON, or a [`PreparedTask`].
pub trait IntoTask {
    /// Checks the task and prepares it for the push.
    ///
    /// # Errors
    /// The task is invalid, or a value of it cannot be serialized.
    fn into_task(self) -> Result<PreparedTask, Error>;
}

/// Checks a task and adds what it lacks: an id, and the time, which [`Client::push`](crate::Client::push) corrects to Redis TIME. The
/// rest is kept byte for byte.
///
/// # Errors
/// The task is invalid ([`Error::InvalidTask`]).
pub fn prepare(json: &str) -> Result<PreparedTask, Error> {
    let task = Task::parse(json.as_bytes(), MAX_BYTES)?;
    if task.callback_of.is_some() {
        let forged = TaskError { cause: InvalidTask::ForgedDelivery, return_address: ReturnAddress::default() };
        return Err(Box::new(forged).into());
    }
    let mut added = String::new();
    let (has_own_id, has_stream) = (task.id.is_some(), task.stream);
    let mut added_stamp = None;
    let id = task.id.unwrap_or_else(|| {
        let id = TaskId::random();
        added = format!("\"id\":\"{id}\",");
        id
    });
    if task.enqueued_at.is_none() {
        let now = UnixMs::local_now();
        let _ = write!(added, "\"enqueued_at_ms\":{now},");
        added_stamp = Some(now);
    }
    // It parsed, so it is an object with at least a URL.
    let rest = json.trim_start().strip_prefix('{').unwrap_or_default();
    let json = format!("{{{added}{rest}");
    // Only two things can make a valid task invalid: an added field that it has as null, and the added bytes.
    if json.contains("null") || json.len() > MAX_BYTES {
        Task::parse(json.as_bytes(), MAX_BYTES)?;
    }
    Ok(PreparedTask { id, json, has_own_id, has_stream, added_stamp })
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
    fn only_a_time_that_was_added_is_corrected() -> Result<(), Error> {
        let added = prepare(r#"{"url":"http://h/"}"#)?;
        let stamp = added.added_stamp.unwrap_or_default();
        let behind = added.json_at(-5_000);
        assert!(behind.contains(&format!("\"enqueued_at_ms\":{},", UnixMs(stamp.0 - 5_000))), "{behind}");
        assert_eq!(added.json_at(0), added.json);
        let own = prepare(r#"{"id":"a","enqueued_at_ms":5,"url":"http://h/"}"#)?;
        assert_eq!(own.json_at(-5_000), own.json);
        assert!(own.has_own_id && !added.has_own_id);
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
