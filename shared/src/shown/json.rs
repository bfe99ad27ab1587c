//! Tasks, dead letters and limits as programs read them, with credentials redacted: the same on the command line and from the gateway.

use std::time::Duration;

use serde_json::{Value, json};

use super::redact;
use crate::limit::{DefinedBy, LimitStatus, WaitingKey};
use crate::protocol::task::Limit;
use crate::queue::dead::DeadLetter;
use crate::queue::list::ListedTask;

/// A task that has not ended. `state` is the name of its state.
pub fn listed_task(listed: &ListedTask, state: &str) -> Value {
    let task = redact::task(&listed.raw);
    let own_id = task.as_ref().and_then(|task| task["id"].as_str()).map(str::to_owned);
    let header = listed.header.as_ref();
    let attempts = header.map_or(&[][..], |header| &header.state.attempts[..]);
    json!({
        "id": own_id.or_else(|| listed.derived_id().map(|id| id.to_string())),
        "state": state,
        "serial": header.map(|header| &header.serial),
        "first_seen_ms": header.map(|header| header.first_seen),
        "attempts": attempts.len(),
        "last_error": attempts.last().and_then(|attempt| attempt.error.as_ref()),
        "waits_for": listed.waits_for.as_ref().map(|list| json!({"kind": list.reason.as_str(), "name": list.name})),
        "due_ms": listed.due,
        "worker": listed.worker.as_ref().map(|worker| worker.as_str()),
        "task": task,
        "bytes": listed.raw.len(),
    })
}

/// A whole dead letter.
pub fn dead_letter(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id(),
        "serial": letter.serial,
        "at_ms": letter.at,
        "reason": letter.reason(),
        "error": letter.result.error,
        "http_status": letter.result.http_status,
        "attempts": letter.result.attempts,
        "memo": letter.memo,
        "task": redact::task(&letter.raw),
        "bytes": letter.raw.len(),
    })
}

/// A limit as in a list.
pub fn limit(status: &LimitStatus) -> Value {
    let LimitStatus { name, limit, left, in_flight, closed, .. } = status;
    json!({
        "name": name, "defined_by": status.source.map_or("none", DefinedBy::as_str), "rate": limit.rate, "per_ms": limit.per_ms,
        "burst": limit.burst, "concurrency": limit.concurrency, "unit": limit.unit, "left": left, "in_flight": in_flight,
        "waiting": status.calls_waiting(),
        "closed_ms": closed.as_ref().map_or(0, |closed| ms(closed.ends_in)),
        "closed_since_ms": closed.as_ref().map(|closed| closed.since),
        "closed_by": closed.as_ref().map(|closed| &closed.by),
    })
}

/// The same with all of its definitions and with who waits, also by fairness key.
pub fn limit_in_full(status: &LimitStatus, keys: &[WaitingKey]) -> Value {
    let mut json = limit(status);
    let definition = |limit: &Option<Limit>| {
        let json = |limit: &Limit| json!({"rate": limit.rate, "per_ms": limit.per_ms, "burst": limit.burst, "concurrency": limit.concurrency, "unit": limit.unit});
        limit.as_ref().map(json)
    };
    let waiting = status.waiting.iter().map(|(queue, calls)| json!({"queue": queue.as_str(), "calls": calls}));
    json["definitions"] = json!({
        "set": definition(&status.set), "config": definition(&status.config), "inline": definition(&status.inline),
    });
    json["config_ends_in_ms"] = json!(ms(status.config_ends_in));
    json["waiting_in"] = waiting.collect();
    let keys =
        keys.iter().map(|waiting| json!({"queue": waiting.queue.as_str(), "key": waiting.key, "cost": waiting.cost}));
    json["waiting_keys"] = keys.collect();
    json
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
