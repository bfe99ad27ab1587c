//! What becomes of a call that would have to wait longer for a limit than it is willing to: it is dead, with the reason `over_budget`.

use std::time::Duration;

use redial_core::Reason;
use redial_core::limit::WaitBound;

use super::applied::AppliedLimit;
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// Whatever is this near is not waited for, but slept through by the worker.
const NO_WAIT: Duration = Duration::from_millis(10);

/// How much longer a call is willing to wait for a limit.
pub fn remaining_bound(worker: &QueueWorker, job: &Job, applied: &AppliedLimit) -> WaitBound {
    let waited_ms = job.header.state.waits_since.map_or(0, |since| worker.queue.clock.now().since(since));
    let remaining = |max_wait: Duration| max_wait.saturating_sub(Duration::from_millis(waited_ms));
    WaitBound { max_wait: applied.wait_bound.max_wait.map(remaining), ..applied.wait_bound }
}

/// Whether a wait is longer than the call is willing to; if not, it begins to wait now. The limit itself has refused before what its rate
/// makes too long; this is about the rest, such as a concurrency slot.
pub fn is_over(worker: &QueueWorker, job: &mut Job, applied: &AppliedLimit, wait: Duration) -> bool {
    let Some(max_wait) = remaining_bound(worker, job, applied).max_wait else { return false };
    job.header.state.waits_since.get_or_insert(worker.queue.clock.now());
    wait > max_wait.max(NO_WAIT)
}

/// Ends a call that would have to wait for that long.
pub fn refuse(applied: &AppliedLimit, wait: Duration) -> Refusal {
    let WaitBound { max_wait, dies_when_spent } = applied.wait_bound;
    let why = match max_wait {
        Some(max_wait) if wait > max_wait => format!("its `max_wait_ms` is {}", max_wait.as_millis()),
        _ if dies_when_spent => "its `on_empty` is \"dead\"".to_owned(),
        _ => "it has waited too long already".to_owned(),
    };
    let (amount, name, wait_s) = (applied.amount(), &applied.limit.name, wait.as_secs_f64());
    let error = format!(
        "it takes {amount} of the limit {name:?}, which would make it wait {wait_s:.1} s more, and {why}: replay it later, or raise the limit"
    );
    Refusal::Reject(Reason::OverBudget, error)
}
