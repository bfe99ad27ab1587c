//! An upstream that has as many calls in flight as it may is not called. Comes before the breaker, so that a task that has to wait here holds
//! no probe, and before the limits, so that it uses none of their rate.

use super::calls::CallInFlight;
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// Admits the task's call among those in flight. A task that has waited brings it along. `None`: it is not counted.
///
/// # Errors
/// The upstream is busy.
pub fn check(worker: &QueueWorker, job: &mut Job) -> Result<Option<CallInFlight>, Refusal> {
    if let Some(call) = job.turn.call.take() {
        return Ok(Some(call));
    }
    let upstreams = worker.shared.config.upstreams.current();
    let (upstream, max) = upstreams.in_flight_at(&job.task.url);
    worker.shared.in_flight.admit(upstream, max).map_err(|upstream| {
        worker.shared.metrics.held_back(worker.name(), "in_flight");
        Refusal::UpstreamBusy(upstream)
    })
}
