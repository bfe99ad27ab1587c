//! For some tasks "was the request sent?" must survive a kill: a marker is written to Redis before the call.

use redial_core::Reason;
use redial_core::consumer::StartedTask;
use redial_core::protocol::task::Effect;
use redial_core::queue::entry::StartMarker;

use super::crashes::QUARANTINE_AFTER;
use crate::queue::queue_worker::QueueWorker;
use crate::queue::start_markers::StartRequest;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// Whether the request may have been sent already and must not be sent again. Comes before every check that could reschedule the
/// task, which would lose the marker, or that could end it for another reason, which would hide this one.
///
/// # Errors
/// It may have been sent.
pub fn check(job: &Job) -> Result<(), Refusal> {
    if is_once(job) && job.header.started == StartMarker::Calling {
        let error = "its worker died after the call may have gone out, and effect \"once\" forbids a second call";
        return Err(Refusal::Reject(Reason::OutcomeUnknown, error.into()));
    }
    Ok(())
}

/// Whether the task needs a start marker: a second call is forbidden, or the task is in quarantine.
pub fn needs_start_marker(job: &Job) -> bool {
    is_once(job) || job.header.crashes >= QUARANTINE_AFTER
}

/// Writes the marker.
///
/// # Errors
/// The lease was lost.
pub async fn record_start(worker: &QueueWorker, job: &mut Job) -> Result<(), Refusal> {
    job.header.started = StartMarker::Calling;
    let task = StartedTask { token: job.token.as_str().to_owned(), header: job.header.to_line() };
    let request = StartRequest { task, entry_bytes: job.raw_bytes };
    match worker.queue.start_markers.ask("mark_started", &worker.queue.retry, &request).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::LeaseLost),
        Err(why) => Err(Refusal::without("its start marker", why)),
    }
}

fn is_once(job: &Job) -> bool {
    job.task.effect == Effect::Once
}
