//! The status of a limit as it is printed.

use std::time::Duration;

use redial_core::limit::{DefinedBy, LimitClosure, LimitStatus, WaitingKey};
use redial_core::protocol::task::Limit;

use crate::output::{escaped, utc};

/// A limit as one line.
pub fn line(status: &LimitStatus) -> String {
    let LimitStatus { name, limit, .. } = status;
    let mut parts = vec![format!("{} ({})", escaped(name), source(status))];
    if limit.rate.is_some() {
        parts.push(rate(limit));
        parts.extend(limit.burst.map(|burst| format!("burst {burst}")));
        parts.extend(status.left.map(|left| format!("left {}", amount(left))));
    }
    parts.extend(limit.concurrency.map(|max| format!("in flight {} of {max}", status.in_flight)));
    parts.extend(status.closed.as_ref().map(|closed| format!("closed for {} ms: {}", ms(closed.ends_in), why(closed))));
    if status.calls_waiting() > 0 {
        parts.push(format!("{} waiting", status.calls_waiting()));
    }
    parts.join("  ")
}

/// A limit as some lines: a name and a value each.
pub fn in_full(status: &LimitStatus, keys: &[WaitingKey]) -> Vec<String> {
    let LimitStatus { limit, .. } = status;
    let mut lines = vec![format!("{} ({})", escaped(&status.name), source(status))];
    let mut add = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
    let in_force = |by: DefinedBy| if status.source == Some(by) { "  (in force)" } else { "" };
    for (name, by, limit) in [
        ("by hand", DefinedBy::Set, &status.set),
        ("configured", DefinedBy::Config, &status.config),
        ("by tasks", DefinedBy::Inline, &status.inline),
    ] {
        let Some(limit) = limit else { continue };
        let ended = by == DefinedBy::Config && status.config_ends_in.is_zero();
        let note = if ended { "  (ended: no running worker configures it)" } else { in_force(by) };
        add(name, definition(limit) + note);
    }
    if let Some(left) = status.left {
        let unit = limit.unit.as_deref().map(|unit| format!(" {}", escaped(unit))).unwrap_or_default();
        add("left", amount(left) + &unit);
    }
    if let Some(max) = limit.concurrency {
        add("in flight", format!("{} of {max}", status.in_flight));
    }
    if let Some(closed) = &status.closed {
        add("closed", format!("since {} for {} ms more: {}", utc(closed.since.0), ms(closed.ends_in), why(closed)));
    }
    add("waiting", status.calls_waiting().to_string());
    for (queue, calls) in &status.waiting {
        add("", format!("{calls} in the queue {queue}"));
        for WaitingKey { key, cost, .. } in keys.iter().filter(|key| key.queue == *queue) {
            add("", format!("  for about {} of it: {}", amount(*cost), escaped(key)));
        }
    }
    lines
}

fn source(status: &LimitStatus) -> &'static str {
    status.source.map_or("none", DefinedBy::as_str)
}

fn definition(limit: &Limit) -> String {
    let mut parts = Vec::new();
    if limit.rate.is_some() {
        parts.push(rate(limit));
        parts.extend(limit.burst.map(|burst| format!("burst {burst}")));
    }
    parts.extend(limit.concurrency.map(|max| format!("concurrency {max}")));
    parts.join(", ")
}

fn rate(limit: &Limit) -> String {
    let unit = limit.unit.as_deref().map(|unit| format!(" {}", escaped(unit))).unwrap_or_default();
    format!("{}{unit} in {} ms", limit.rate.unwrap_or_default(), limit.per_ms.unwrap_or(1000))
}

/// What is left, with as many digits as tell something: one, but more of what is less than ten.
fn amount(left: f64) -> String {
    if left.abs() >= 10.0 { format!("{left:.1}") } else { format!("{left:.4}") }
}

fn why(closed: &LimitClosure) -> String {
    if closed.by.is_empty() { "as the upstream asked".into() } else { escaped(&closed.by) }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
