//! A task that kills its workers is quarantined, so that it takes no other task with it.
//!
//! When a worker dies, every task that it held is suspect. A second crash may still be a coincidence. But from then on a task runs
//! alone in its worker and with a start marker, so that a third crash is counted only against the task that was running.

use std::sync::Arc;
use std::time::Duration;

use redial_core::{Reason, UnixMs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::task::job::Job;
use crate::task::types::Refusal;

/// After this many crashes a task is dead.
const MAX_CRASHES: u32 = 3;
/// After this many it is quarantined.
const QUARANTINE_AFTER: u32 = 2;
/// How long a task waits if another one is in quarantine.
const QUARANTINE_WAIT: Duration = Duration::from_millis(200);

/// Puts a suspect in quarantine. `None`: the task is not a suspect.
///
/// # Errors
/// The task is dead, or has to wait for another suspect.
pub fn check(quarantine: &Arc<Semaphore>, job: &Job) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    let crashes = job.header.crashes;
    if crashes >= MAX_CRASHES {
        let error = format!("{crashes} workers died while they ran it; replay it once the cause is fixed");
        return Err(Refusal::Reject(Reason::CrashedWorker, error));
    }
    if crashes < QUARANTINE_AFTER {
        return Ok(None);
    }
    let wait = Refusal::Defer { wait: QUARANTINE_WAIT, not_before: UnixMs(0) };
    quarantine.clone().try_acquire_owned().map(Some).map_err(|_| wait)
}
