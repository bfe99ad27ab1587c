//! Tells the limits what a response revealed: for how long the upstream wants no calls, what remains there, what the call cost.

use std::time::Duration;

use redial_core::limit::{Adjusted, Adjustment};
use serde_json::Value;

use super::applied::AppliedLimit;
use crate::http::presets::Preset;
use crate::http::types::{AttemptResult, Response};
use crate::queue::clock::millis;
use crate::queue::queue_worker::QueueWorker;
use crate::task::heavy;
use crate::task::policy::advice::Advice;

/// How long the result of a call waits for its limits to be corrected.
const MAX_ADJUST_TIME: Duration = Duration::from_secs(3);
/// A stated usage above this is as good as infinite; the limit believes much less.
const MAX_USAGE: f64 = 1e15;

/// Adjusts the limits of a call after its attempt.
pub async fn adjust_limits(worker: &QueueWorker, limits: &[AppliedLimit], preset: &Preset, result: &AttemptResult) {
    let Ok(response) = result else { return };
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
    let json = heavy::work(response.body.len(), || states_usage.then(|| json_body(response)).flatten()).await;
    for applied in limits {
        // What an upstream says about itself does not concern a tenant's limit, if the two are distinguished.
        let concerned = applied.of_upstream || !has_upstream_limit;
        let remaining = if applied.usage.is_stated() { info.tokens } else { info.requests };
        let used = json.as_ref().and_then(|json| applied.usage.read(json));
        let adjustment = Adjustment {
            close_for: if concerned { close_for } else { Duration::ZERO },
            charge: used.map_or(0.0, |used| used.min(MAX_USAGE) - applied.cost),
            cost: applied.cost,
            remaining: remaining.filter(|_| concerned),
            granted_at: applied.granted_at(),
        };
        adjust(worker, &applied.limit.name, &adjustment).await;
    }
}

async fn adjust(worker: &QueueWorker, limit: &str, adjustment: &Adjustment) {
    let closes = !adjustment.close_for.is_zero();
    if !closes && adjustment.remaining.is_none() && adjustment.charge == 0.0 {
        return;
    }
    if closes {
        let wait_ms = millis(adjustment.close_for);
        worker.shared.limits.close(limit, adjustment.close_for);
        tracing::info!(limit, queue = worker.name(), wait_ms, "the upstream asks for a pause: closing the limit");
    }
    let client = &worker.shared.limits;
    let retried = client.retry().retry("adjust", || client.limits().adjust(limit, adjustment));
    // The result of the call does not wait for a limit whose Redis is away.
    let Ok(adjusted) = tokio::time::timeout(MAX_ADJUST_TIME, retried).await else {
        tracing::warn!(
            limit,
            queue = worker.name(),
            "could not tell a limit what a response revealed about it: Redis does not answer"
        );
        return;
    };
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
}

/// The body of a successful response, if it is JSON.
fn json_body(response: &Response) -> Option<Value> {
    (200..300).contains(&response.status).then(|| serde_json::from_slice(&response.body).ok()).flatten()
}
