//! An upstream that is down is not called, and retries never outgrow what it can bear. Before the limits, so that a task that
//! must wait here takes none of their rate.

use std::sync::Arc;

use redial_core::UnixMs;
use redial_core::breaker::BreakerRequest;

use super::Verdict;
use crate::breaker::{self, Told};
use crate::job::Job;
use crate::worker::{Lane, Worker};

/// Asks the breaker of the task's upstream, unless leave for this very attempt is there already.
pub(super) async fn check(worker: &Arc<Worker>, lane: &Arc<Lane>, job: &mut Job) -> Option<Verdict> {
    if !worker.config.breaker.is_on() || !worker.config.upstreams.has_breaker(&job.task) {
        return None;
    }
    let state = &mut job.header.state;
    let ask = match state.retry_reservation {
        _ if state.counted == 0 => BreakerRequest::First,
        // Paid for out of the budget already, and then held up by a limit.
        Some((attempt, true)) if attempt == state.counted => BreakerRequest::First,
        Some((attempt, false)) if attempt == state.counted => BreakerRequest::ReservedRetry,
        _ => BreakerRequest::Retry,
    };
    let told = breaker::ask(worker, lane, breaker::upstream_of(&job.task.url), ask).await;
    state.retry_reservation = Some((state.counted, matches!(told, Some(Told::Go(_))))).filter(|_| state.counted > 0);
    match told {
        Some(Told::Go(leave)) => {
            job.leave = Some(leave);
            None
        }
        Some(Told::Spent(wait)) => {
            worker.metrics.held_back(&lane.name, "retry_budget");
            Some(Verdict::Defer { wait, not_before: UnixMs(0) })
        }
        Some(Told::Down(wait)) => {
            worker.metrics.held_back(&lane.name, "breaker");
            Some(Verdict::Down(wait))
        }
        None => Some(Verdict::Lost),
    }
}
