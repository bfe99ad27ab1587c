//! An upstream that is down is not called, and retries never exceed their budget. Comes before the limits, so that a task that has to
//! wait here uses none of their rate.

use redial_core::UnixMs;
use redial_core::breaker::BreakerRequest;

use super::client::{BreakerPermit, BreakerVerdict, upstream_of};
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// Asks the breaker of the task's upstream. `None`: the call needs no permit.
///
/// # Errors
/// The breaker is open, or the retry budget is exhausted.
pub async fn check(worker: &QueueWorker, job: &mut Job) -> Result<Option<BreakerPermit>, Refusal> {
    let config = &worker.shared.config;
    if !config.breaker.is_on() || !config.upstreams.current().has_breaker(&job.task) {
        return Ok(None);
    }
    let state = &mut job.header.state;
    let request = match state.retry_reservation {
        _ if state.counted == 0 => BreakerRequest::First,
        // The budget has already paid for this retry, which then had to wait for a limit.
        Some((attempt, true)) if attempt == state.counted => BreakerRequest::First,
        Some((attempt, false)) if attempt == state.counted => BreakerRequest::ReservedRetry,
        _ => BreakerRequest::Retry,
    };
    let verdict = worker.shared.breakers.ask(upstream_of(&job.task.url), request).await.ok_or(Refusal::LeaseLost)?;
    let is_allowed = matches!(verdict, BreakerVerdict::Allowed(_));
    state.retry_reservation = (state.counted > 0).then_some((state.counted, is_allowed));
    let metrics = &worker.shared.metrics;
    match verdict {
        BreakerVerdict::Allowed(permit) => Ok(Some(permit)),
        BreakerVerdict::BudgetExhausted(wait) => {
            metrics.held_back(worker.name(), "retry_budget");
            Err(Refusal::Defer { wait, not_before: UnixMs(0) })
        }
        BreakerVerdict::Open(wait) => {
            metrics.held_back(worker.name(), "breaker");
            Err(Refusal::UpstreamDown(wait))
        }
    }
}
