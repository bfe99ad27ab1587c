//! Each task has the result that it must have, and what shares an answer has the same.

use std::collections::HashMap;

use serde_json::Value;

use super::{Evidence, Verdict};
use crate::kinds::Purpose;
use crate::load::Pushed;

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for (id, task) in evidence.missing() {
        if evidence.world.topology.is_lossy() {
            verdict.lost += 1;
        } else {
            verdict.violations.push(format!(
                "{id} of queue {}, pushed at {}, has no result",
                task.queue,
                task.acknowledged_ms.unwrap_or_default()
            ));
        }
    }
    for task in evidence.tasks {
        if let Some(result) = evidence.results.get(&task.id) {
            check_result(task, result, verdict);
        }
        if let Some(result) = task.follow_up().and_then(|id| evidence.results.get(&id)) {
            // The upstream answers every follow-up.
            verdict.expect(is_answered(result), || describe(result, "ok"));
        }
    }
    check_groups(evidence, verdict);
}

/// A worker that is killed three times with the same task in hand may be chance.
fn is_answered(result: &Value) -> bool {
    result["status"] == "ok" || result["reason"] == "crashed_worker"
}

fn describe(result: &Value, expected: &str) -> String {
    let reason = result["reason"].as_str().unwrap_or("ok");
    format!("{} ended as {reason} and not as {expected}: {}", result["id"], result["error"])
}

fn check_result(task: &Pushed, result: &Value, verdict: &mut Verdict) {
    let reason = result["reason"].as_str().unwrap_or("ok");
    *verdict.answers.entry(reason.to_owned()).or_default() += 1;
    let (is_right, expected) = match task.purpose {
        Purpose::Once => (is_answered(result) || reason == "outcome_unknown", "ok or outcome_unknown"),
        Purpose::Doomed => (matches!(reason, "expired" | "attempts_exhausted"), "expired"),
        Purpose::Hurried => (is_answered(result) || reason == "expired", "ok or expired"),
        Purpose::Invalid => (reason == "invalid_task", "invalid_task"),
        Purpose::Cancelled | Purpose::CancelledInFlight if task.is_cancelled => (reason == "cancelled", "cancelled"),
        // The cancellation may have been carried out although its answer was lost.
        Purpose::Cancelled | Purpose::CancelledInFlight => (is_answered(result) || reason == "cancelled", "ok"),
        _ if task.purpose.is_hostile() => (true, "anything"),
        _ => (is_answered(result), "ok"),
    };
    verdict.expect(is_right, || describe(result, expected));
}

/// Tasks of one idempotency key have one answer.
fn check_groups(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let mut answers: HashMap<&str, Vec<&Value>> = HashMap::new();
    for (task, result) in evidence.of(&[Purpose::Keyed]) {
        if let Some(group) = &task.group {
            answers.entry(group).or_default().push(&result["body"]);
        }
    }
    for (group, mut bodies) in answers {
        bodies.dedup();
        if bodies.len() > 1 {
            verdict.violations.push(format!("the tasks of {group} have different answers: {bodies:?}"));
        }
    }
}
