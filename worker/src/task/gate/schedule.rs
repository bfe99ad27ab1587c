//! No attempt of a task starts before its time.

use std::time::Duration;

use redial_core::UnixMs;

use crate::task::job::Job;
use crate::task::types::Refusal;

/// # Errors
/// It is too early.
pub fn check(job: &Job, now: UnixMs) -> Result<(), Refusal> {
    match job.task.not_before(job.header.first_seen) {
        Some(not_before) if now < not_before => Err(Refusal::Defer { wait: Duration::ZERO, not_before }),
        _ => Ok(()),
    }
}
