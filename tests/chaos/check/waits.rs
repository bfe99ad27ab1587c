//! No task waits for longer than its own cause.

use redial_tests::stalls;

use super::{Evidence, Verdict};
use crate::faults::Fault;
use crate::kinds::{Purpose, TTL_MS};

/// How long a plain task may take that no fault concerns, in ms: two seconds are promised, and the machine may be busy.
const BESIDE_MS: u64 = 5_000;
/// The same after a fault that concerns its queue: what a worker held is taken over after its lease, and clients wait between
/// attempts to reconnect.
const AFTER_MS: u64 = 12_000;

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    check_probes(evidence, verdict);
    check_expiries(evidence, verdict);
}

fn check_probes(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for probe in evidence.probes {
        let Some(pushed) = probe.pushed_ms else { continue };
        let latest = evidence.world.timeline.latest(probe.queue, pushed, (BESIDE_MS, AFTER_MS));
        let Some(answered) = probe.answered_ms else {
            if evidence.world.topology.is_lossy() {
                verdict.lost += 1;
            } else {
                verdict
                    .violations
                    .push(format!("{} of queue {}, pushed at {pushed}, has no result", probe.id, probe.queue));
            }
            continue;
        };
        let wait = answered - pushed;
        verdict.waits.push(wait);
        if latest == pushed + BESIDE_MS + stalls::between(pushed, pushed + BESIDE_MS) {
            verdict.beside.push(wait);
        }
        verdict.expect(answered <= latest, || {
            let faults = evidence.world.timeline.episodes();
            let before = faults.iter().rev().find(|one| one.from_ms < answered);
            format!(
                "{} of queue {} waited for {wait} ms from {pushed} on, {} ms too long; the last fault before its end was {before:?}",
                probe.id,
                probe.queue,
                answered - latest
            )
        });
    }
    verdict.waits.sort_unstable();
    verdict.beside.sort_unstable();
}

/// A task is expired soon after its deadline, wherever it waits.
fn check_expiries(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    if evidence.world.timeline.count(|fault| fault == Fault::StepClock) > 0 {
        return;
    }
    for (task, result) in evidence.of(&[Purpose::Hurried, Purpose::Doomed]) {
        let (Some(pushed), Some(finished)) = (task.acknowledged_ms, result["finished_at_ms"].as_u64()) else {
            continue;
        };
        // The deadline counts from when a worker first sees the task.
        let latest = evidence.world.timeline.latest(task.queue, pushed, (BESIDE_MS, AFTER_MS));
        let latest = evidence.world.timeline.latest(task.queue, latest + TTL_MS, (BESIDE_MS, AFTER_MS));
        if result["reason"] == "expired" && finished > latest {
            let seen =
                format!("{}, pushed at {pushed}, expired at {finished}, {} ms too late", task.id, finished - latest);
            verdict.violations.push(seen);
        }
    }
}
