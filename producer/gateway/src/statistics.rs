//! What workers counted, as programs read it.

use redial_core::statistics::counts::{NamedCounts, UpstreamStatistics};
use redial_core::statistics::summary::{StatisticsSummary, StatisticsWindow};
use serde_json::{Value, json};

use crate::problem::Problem;

/// Reads the window that a request names; a minute by default.
///
/// # Errors
/// There is no such window.
pub(crate) fn window(text: Option<&str>) -> Result<StatisticsWindow, Problem> {
    let name = text.unwrap_or("minute");
    StatisticsWindow::named(name)
        .ok_or_else(|| Problem::invalid(format!("the parameter window is {name:?}: use minute, five_minutes or hour")))
}

/// The answer to `GET /v1/statistics`.
pub(crate) fn to_json(summary: &StatisticsSummary) -> Value {
    let StatisticsSummary { window, now, total, steps } = summary;
    let upstreams = total.upstreams.iter().map(|(name, upstream)| upstream_json(name, upstream));
    let steps = steps.iter().map(|step| {
        let attempts: u64 = step.upstreams.values().map(UpstreamStatistics::attempts).sum();
        let good: u64 = step.upstreams.values().map(|upstream| upstream.good).sum();
        json!({"attempts": attempts, "good": good, "completed": sum(&step.completed), "dead": sum(&step.dead)})
    });
    json!({
        "now_ms": now,
        "window_ms": u64::try_from(window.length().as_millis()).unwrap_or(u64::MAX),
        "step_ms": u64::try_from(window.period().step().as_millis()).unwrap_or(u64::MAX),
        "completed": total.completed,
        "dead": total.dead,
        "waits": total.waits,
        "upstreams": upstreams.collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn sum(counts: &NamedCounts) -> u64 {
    counts.values().sum()
}

fn upstream_json(name: &str, upstream: &UpstreamStatistics) -> Value {
    let percentile = |share| upstream.latency.percentile(share);
    json!({
        "upstream": name,
        "attempts": upstream.attempts(),
        "good": upstream.good,
        "retries": upstream.retries,
        "rate_limited": upstream.rate_limited(),
        "statuses": upstream.statuses,
        "failures": upstream.failures,
        "p50_ms": percentile(0.5),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
    })
}
