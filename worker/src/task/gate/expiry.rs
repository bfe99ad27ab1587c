//! No attempt of a task starts after its deadline.

use redial_core::{Reason, UnixMs};

use crate::task::job::Job;
use crate::task::types::Refusal;

/// # Errors
/// The deadline has passed.
pub fn check(job: &Job, now: UnixMs) -> Result<(), Refusal> {
    // A worker's clock may be a little behind that of Redis, by which the task was seen.
    let now = now.max(job.header.first_seen);
    if job.task.deadline(job.header.first_seen).is_none_or(|deadline| now < deadline) {
        return Ok(());
    }
    Err(Refusal::Reject(Reason::Expired, error(job, now)))
}

/// What the result of a task says whose deadline has passed.
pub fn error(job: &Job, now: UnixMs) -> String {
    let late_ms = job.task.deadline(job.header.first_seen).map_or(0, |deadline| now.since(deadline));
    let last_error = job.header.state.attempts.last().and_then(|attempt| attempt.error.as_deref());
    let history =
        last_error.map_or_else(|| "no attempt was made".to_owned(), |error| format!("the last attempt: {error}"));
    format!("its deadline passed {late_ms} ms ago; {history}")
}
