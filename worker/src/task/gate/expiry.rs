//! No attempt of a task starts after its deadline.

use redial_core::{Reason, UnixMs};

use crate::task::job::Job;
use crate::task::types::Refusal;

/// # Errors
/// The deadline has passed.
pub fn check(job: &Job, now: UnixMs) -> Result<(), Refusal> {
    let Some(deadline) = job.task.deadline(job.header.first_seen).filter(|deadline| now >= *deadline) else {
        return Ok(());
    };
    let late_ms = now.since(deadline);
    let last_error = job.header.state.attempts.last().and_then(|attempt| attempt.error.as_deref());
    let history =
        last_error.map_or_else(|| "no attempt was made".to_owned(), |error| format!("the last attempt: {error}"));
    Err(Refusal::Reject(Reason::Expired, format!("its deadline passed {late_ms} ms ago; {history}")))
}
