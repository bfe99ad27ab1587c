//! A task that kills its workers is quarantined, so that it takes no other task with it.
//!
//! When a worker dies, every task that it held is suspect. A second crash may still be a coincidence. But from then on a task runs
//! alone in its worker, and a start marker is written before it is parsed and before its call, so that a third crash is counted only
//! against the task that was running.

use std::time::Duration;

use redial_core::Reason;
use redial_core::protocol::task::InvalidTask;
use redial_core::queue::entry::{Entry, StartMarker};
use tokio::sync::OwnedSemaphorePermit;

use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// After this many crashes a task is dead.
const MAX_CRASHES: u32 = 3;
/// After this many it is quarantined.
pub const QUARANTINE_AFTER: u32 = 2;
/// How long a task waits if another one is in quarantine.
const QUARANTINE_WAIT: Duration = Duration::from_millis(200);

/// Why a suspect does not run now.
#[derive(Debug)]
pub enum QuarantineRefusal {
    /// It had this many crashes, and may not even be parsed again.
    SetAside(u32),
    /// Another suspect is running.
    Wait(Duration),
    /// Another worker has it.
    LeaseLost,
    /// Its start marker could not be written.
    NotMarked(NotStored),
}

/// Decides, before it is parsed, whether a task with crashes may run, and puts it in quarantine if necessary.
///
/// # Errors
/// It may not, or not now.
pub async fn admit(worker: &QueueWorker, entry: &mut Entry) -> Result<Option<OwnedSemaphorePermit>, QuarantineRefusal> {
    let header = &mut entry.header;
    // Had it not been parsed, no call would have been about to start. So it can be, and what it leads can be settled: see `check`.
    let can_be_parsed = header.started == StartMarker::Calling;
    if header.crashes >= MAX_CRASHES && !can_be_parsed {
        return Err(QuarantineRefusal::SetAside(header.crashes));
    }
    if header.crashes < QUARANTINE_AFTER {
        return Ok(None);
    }
    let free = worker.shared.quarantine.clone().try_acquire_owned();
    let permit = free.map_err(|_| QuarantineRefusal::Wait(QUARANTINE_WAIT))?;
    if header.started == StartMarker::Absent {
        header.started = StartMarker::Opening;
        let mark = || worker.queue.consumer.mark_started(&entry.token, header);
        match worker.queue.retry.retry("mark_started", mark).await {
            Ok(true) => {}
            Ok(false) => return Err(QuarantineRefusal::LeaseLost),
            Err(why) => return Err(QuarantineRefusal::NotMarked(why)),
        }
    }
    Ok(Some(permit))
}

/// # Errors
/// The task is dead: it has killed too many workers.
pub fn check(job: &Job) -> Result<(), Refusal> {
    let crashes = job.header.crashes;
    if crashes < MAX_CRASHES {
        return Ok(());
    }
    Err(Refusal::Reject(Reason::CrashedWorker, InvalidTask::CrashesWorkers(crashes).to_string()))
}
