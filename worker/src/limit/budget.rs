//! What becomes of a call that would have to wait longer for a limit than it is willing to: it is dead, with the reason `over_budget`.

use std::time::Duration;

use redial_core::Reason;
use redial_core::limit::WaitBound;

use super::applied::AppliedLimit;
use crate::queue::clock::millis;
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// What a task dies of that has waited for its limits for as long as it was willing to.
pub const WAITED_TOO_LONG: &str =
    "it has waited for a limit for as long as its `max_wait_ms` allows: replay it later, or raise the limit";

/// How much longer a call is willing to wait for a limit.
pub fn remaining_bound(worker: &QueueWorker, job: &Job, applied: &AppliedLimit) -> WaitBound {
    let left = job.header.state.waits_until.map(|until| worker.queue.clock.until(until));
    let max_wait = applied.wait_bound.max_wait.map(|max_wait| left.map_or(max_wait, |left| left.min(max_wait)));
    WaitBound { max_wait, ..applied.wait_bound }
}

/// Notes until when a call waits at most that begins to wait for a limit.
pub fn note_wait(worker: &QueueWorker, job: &mut Job, applied: &AppliedLimit, refusal: &Refusal) {
    let (Refusal::AwaitLimit(_), Some(max_wait)) = (refusal, applied.wait_bound.max_wait) else { return };
    let until = worker.queue.clock.now().plus(millis(max_wait));
    let known = &mut job.header.state.waits_until;
    *known = Some(known.map_or(until, |known| known.min(until)));
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
