//! The calls that the upstream recorded: never twice where once must do, never before their time, never over a limit.

use std::collections::HashMap;

use redial_tests::{Request, stalls};

use super::{Evidence, Verdict};
use crate::faults::Fault;
use crate::fleet::LEASE_MS;
use crate::kinds::{BURST, FLEETING_MS, Purpose, RATE, SLOTS};

/// Of how many ms a clock read at the upstream may be off from the limit's, on a machine that is not frozen.
const JITTER_MS: u64 = 100;
/// How early a delayed call may seem to be, in ms: two clocks are read.
const EARLY_MS: u64 = 5;

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let mut of_path: HashMap<&str, Vec<&Request>> = HashMap::new();
    for call in &evidence.calls {
        of_path.entry(call.route()).or_default().push(call);
    }
    let calls_to = |path: &str| of_path.get(path).map_or(&[][..], Vec::as_slice);
    check_once(evidence, calls_to, verdict);
    check_keys_and_delays(evidence, calls_to, verdict);
    check_freshness(evidence, verdict);
    check_rate(evidence, verdict);
    check_slots(evidence, verdict);
}

fn check_once<'a>(evidence: &Evidence<'_>, calls_to: impl Fn(&str) -> &'a [&'a Request], verdict: &mut Verdict) {
    for task in evidence.tasks.iter().filter(|task| task.purpose == Purpose::Once) {
        let at: Vec<u64> = calls_to(&format!("/once/{}", task.id)).iter().map(|call| call.unix_ms).collect();
        let (Some(first), Some(last)) = (at.first(), at.last().filter(|_| at.len() > 1)) else { continue };
        let seen = format!("{} may be called once, and was called at {at:?}", task.id);
        let is_lost = evidence.world.topology.is_lossy()
            && evidence.world.timeline.has_between(*first, *last, |fault| fault == Fault::FailOver);
        if is_lost { &mut verdict.broken_by_loss } else { &mut verdict.violations }.push(seen);
    }
}

fn check_keys_and_delays<'a>(
    evidence: &Evidence<'_>,
    calls_to: impl Fn(&str) -> &'a [&'a Request],
    verdict: &mut Verdict,
) {
    let has_true_clock = evidence.world.timeline.count(|fault| fault == Fault::StepClock) == 0;
    for task in evidence.tasks {
        if let (Purpose::Keyed, Some(key)) = (task.purpose, &task.group) {
            let calls = calls_to(&format!("/flaky/{key}"));
            let is_keyed = calls.iter().all(|call| call.headers.get("idempotency-key") == Some(key));
            verdict.expect(is_keyed, || format!("a call of {} went without its key {key}", task.id));
        }
        if task.purpose == Purpose::Delayed && has_true_clock {
            let first = calls_to(&format!("/good/{}", task.id)).first();
            let due = task.at_ms + task.delay_ms;
            if let Some(call) = first.filter(|call| call.unix_ms + EARLY_MS < due) {
                verdict.violations.push(format!("{} was called {} ms before its time", task.id, due - call.unix_ms));
            }
        }
    }
}

/// An answer from the cache is no older than the task allows.
fn check_freshness(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    // Whoever is about to lead, and stands still, may share what was current then.
    let slack_ms = |from: u64, to: u64| {
        let is_disturbed = evidence.world.timeline.has_between(from, to, |_| true);
        if is_disturbed { 60_000 } else { 3_000 + stalls::between(from, to) }
    };
    for (task, result) in evidence.of(&[Purpose::Fleeting]) {
        let Some(call) = result["body"]["call"].as_u64().and_then(|nth| evidence.calls.get(usize::try_from(nth).ok()?))
        else {
            continue;
        };
        let answered = call.unix_ms + evidence.world.upstreams.delay_ms(call.route());
        let is_fresh = answered + FLEETING_MS + slack_ms(answered, task.at_ms) >= task.at_ms;
        verdict.expect(is_fresh, || {
            format!(
                "{} was pushed at {} and got an answer of {answered}, kept for {FLEETING_MS} ms",
                task.id, task.at_ms
            )
        });
    }
}

/// In no window do more calls arrive than burst and rate allow. Calls of a worker that was frozen between its permission and its call
/// arrive late, a few at most; a step of the clock may refill the burst.
fn check_rate(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    const LATE_CALLS: f64 = 4.0;
    let is_step = |fault| matches!(fault, Fault::StepClock | Fault::FailOver);
    let calls = evidence.calls.iter().filter(|call| call.route().starts_with("/limited/"));
    let at: Vec<u64> = calls.map(|call| call.unix_ms).collect();
    for (from, first) in at.iter().enumerate() {
        for (to, last) in at.iter().enumerate().skip(from) {
            let span_ms = last.saturating_sub(*first) + stalls::between(*first, *last) + JITTER_MS;
            #[expect(clippy::cast_precision_loss, reason = "a few thousand calls in a few minutes")]
            let (count, allowed) = ((to - from + 1) as f64, BURST + RATE * span_ms as f64 / 1_000.0 + LATE_CALLS);
            // The many windows without a step are cheap to tell.
            if count > allowed {
                let steps = evidence.world.timeline.episodes().into_iter();
                let steps = steps.filter(|one| is_step(one.fault) && one.from_ms <= *last && one.to_ms >= *first);
                #[expect(clippy::cast_precision_loss, reason = "a few faults")]
                let refilled = 2.0 * BURST * steps.count() as f64;
                if count > allowed + refilled {
                    let seen = format!("{count} limited calls from {first} to {last}: {allowed:.0} may go");
                    return verdict.violations.push(seen);
                }
            }
        }
    }
}

/// No more calls are in flight than there are slots. A call whose worker stood still after it had a slot for it may come late, when
/// the slot belongs to another.
fn check_slots(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let calls = evidence.calls.iter().filter(|call| call.route().starts_with("/slots/"));
    let mut edges: Vec<(u64, i64)> = Vec::new();
    for call in calls {
        // A little before the worker knows of it: the next call may begin at the same moment.
        let end = call.unix_ms + evidence.world.upstreams.delay_ms(call.route()).saturating_sub(2);
        edges.extend([(call.unix_ms, 1), (end, -1)]);
    }
    // At the same moment, ends come first.
    edges.sort_unstable();
    let (mut in_flight, limit) = (0, i64::try_from(SLOTS).expect("a few slots"));
    for (at, change) in edges {
        in_flight += change;
        if in_flight > limit {
            let near = |fault: Fault| fault.is_of_worker() || matches!(fault, Fault::FailOver | Fault::StepClock);
            let is_excused = evidence.world.timeline.has_between(at.saturating_sub(LEASE_MS), at + 500, near)
                || stalls::between(at.saturating_sub(LEASE_MS), at) > LEASE_MS / 4;
            if !is_excused || in_flight > 2 * limit {
                return verdict.violations.push(format!("{in_flight} calls were in flight at {at}: {limit} may be"));
            }
        }
    }
}
