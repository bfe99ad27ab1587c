//! Tells the limits what a response revealed: for how long the upstream wants no calls, what remains there, what the call cost.

use std::time::Duration;

use redial_core::Task;
use redial_core::limit::{Adjusted, Adjustment};
use serde_json::Value;

use super::applied::AppliedLimit;
use super::client::DrainReason;
use crate::http::presets::Preset;
use crate::http::types::{AttemptResult, Response};
use crate::queue::clock::millis;
use crate::queue::queue_worker::QueueWorker;
use crate::task::heavy;
use crate::task::policy::advice::Advice;
use crate::task::policy::judge;

/// How long the result of a call waits for its limits to be corrected.
const MAX_ADJUST_TIME: Duration = Duration::from_secs(3);
/// A stated usage above this is as good as infinite; the limit believes much less.
const MAX_USAGE: f64 = 1e15;

/// Adjusts the limits of a call after its attempt.
///
/// A limit follows the responses of the upstreams that the configuration names it for, and a limit that only tasks define those to any
/// of these tasks. So a task cannot move what operators define by calling a server of its own.
pub async fn adjust_limits(
    worker: &QueueWorker,
    task: &Task,
    limits: &[AppliedLimit],
    preset: &Preset,
    result: &AttemptResult,
) {
    let Ok(response) = result else { return limits.iter().for_each(|applied| count_used(worker, applied, None)) };
    let max_wait = worker.shared.config.max_stated_wait;
    let advice = Advice::read(response, preset, worker.queue.clock.now(), max_wait);
    // After a failure, the line about the attempt says it.
    if let Some(ignored) = advice.ignored.as_deref().filter(|_| (200..300).contains(&response.status)) {
        tracing::warn!(queue = worker.name(), ignored, "a response states a time that cannot be true");
    }
    let info = advice.limits;
    let close_for = advice.closes_for(response.status).unwrap_or_default().min(max_wait);
    let has_upstream_limit = limits.iter().any(|applied| applied.of_upstream);
    let states_usage = limits.iter().any(|applied| applied.usage.is_stated());
    let used =
        if states_usage { heavy::work(response.body.len(), || used(response, limits)).await } else { Vec::new() };
    let closed_by = if close_for.is_zero() { String::new() } else { closed_by(task, response.status) };
    for (at, applied) in limits.iter().enumerate() {
        if !applied.may_be_adjusted() {
            count_used(worker, applied, None);
            continue;
        }
        // What an upstream says about itself does not concern a tenant's limit, if the two are distinguished.
        let concerned = applied.of_upstream || !has_upstream_limit;
        let used = used.get(at).copied().flatten();
        let adjustment = Adjustment {
            close_for: if concerned { close_for } else { Duration::ZERO },
            closed_by: &closed_by,
            charge: used.map_or(0.0, |used| used.min(MAX_USAGE) - applied.cost),
            cost: applied.cost,
            remaining: applied.remaining(info.tokens, info.requests).filter(|_| concerned),
            granted_at: applied.granted_at(),
            said_by: applied.said_by,
        };
        let is_believed = says_nothing(&adjustment) || Box::pin(adjust(worker, &applied.limit.name, &adjustment)).await;
        count_used(worker, applied, used.filter(|_| is_believed));
    }
}

/// Counts what a call took of a limit of the configuration: its cost, unless the response states something else.
fn count_used(worker: &QueueWorker, applied: &AppliedLimit, used: Option<f64>) {
    if let Some(definition) = worker.shared.config.limits.get(&applied.limit.name) {
        let amount = used.map_or(applied.cost, |used| used.min(MAX_USAGE));
        worker.shared.metrics.limits.used(&definition.name, definition.unit.as_deref(), amount);
    }
}

/// What closes a limit, for people.
fn closed_by(task: &Task, status: u16) -> String {
    let host = task.url.host_str().unwrap_or_default();
    format!("{host} answered {status} and asked for a pause")
}

/// Whether a response has nothing to tell a limit. Most do not.
fn says_nothing(adjustment: &Adjustment<'_>) -> bool {
    adjustment.close_for.is_zero() && adjustment.remaining.is_none() && adjustment.charge == 0.0
}

/// Tells one limit. `false`: it does not believe what the response states.
async fn adjust(worker: &QueueWorker, limit: &str, adjustment: &Adjustment<'_>) -> bool {
    let closes = !adjustment.close_for.is_zero();
    let client = &worker.shared.limits;
    let retried = client.retry().retry("adjust", || client.limits().adjust(limit, adjustment));
    // The result of the call does not wait for a limit whose Redis is away.
    let Ok(adjusted) = tokio::time::timeout(MAX_ADJUST_TIME, retried).await else {
        tracing::warn!(
            limit,
            queue = worker.name(),
            "could not tell a limit what a response revealed about it: Redis does not answer"
        );
        return true;
    };
    if adjustment.charge < 0.0 {
        client.signal(limit, DrainReason::Refunded);
    }
    if closes && matches!(adjusted, Ok(Adjusted::Done | Adjusted::Capped)) {
        let wait_ms = millis(adjustment.close_for);
        client.close(limit, adjustment.close_for);
        tracing::info!(limit, queue = worker.name(), wait_ms, "the upstream asked for a pause: the limit is closed");
    }
    if matches!(adjusted, Ok(Adjusted::Refused)) {
        tracing::debug!(
            limit,
            queue = worker.name(),
            "an operator defines this limit and does not name it for this upstream: its response has no say in it"
        );
    }
    if matches!(adjusted, Ok(Adjusted::Capped)) {
        worker.shared.metrics.usage_capped();
        tracing::warn!(
            limit,
            queue = worker.name(),
            usage = adjustment.cost + adjustment.charge,
            cost = adjustment.cost,
            "a response states a usage out of all proportion to the call's cost: charging a part of it; check the limit's `cost` and `usage`"
        );
    }
    !matches!(adjusted, Ok(Adjusted::Refused | Adjusted::Capped))
}

/// What a successful response states that the call took of each limit, in its JSON or in the events of its stream.
fn used(response: &Response, limits: &[AppliedLimit]) -> Vec<Option<f64>> {
    if !(200..300).contains(&response.status) {
        return Vec::new();
    }
    if judge::is_event_stream(response) {
        let of_limit =
            |applied: &AppliedLimit| judge::read_events(response, |events| applied.usage.read_events(events));
        return limits.iter().map(of_limit).collect();
    }
    let Ok(json) = serde_json::from_slice::<Value>(&response.body) else { return Vec::new() };
    limits.iter().map(|applied| applied.usage.read(&json)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::{never, size_of_returned};

    #[test]
    fn a_task_whose_response_tells_its_limits_nothing_is_small() {
        // Each task under a limit holds one for a moment.
        assert!(size_of_returned(|| adjust_limits(never(), never(), never(), never(), never())) <= 1 << 10);
    }
}
