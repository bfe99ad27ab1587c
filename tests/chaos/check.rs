//! The checker: every promise against the upstream's record and what is in Redis.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use redial_core::QueueName;
use redial_tests::{Request, TestQueue, Upstream};
use serde_json::Value;

use crate::QUEUES;
use crate::load::{BURST, Load, Purpose, Pushed, RATE};
use crate::topology::Topology;

/// How long the tasks that are left may take once the faults are over.
const SETTLE: Duration = Duration::from_secs(90);
/// A result that is there must not change for this long.
const UNCHANGED: Duration = Duration::from_secs(2);
/// Of how many ms a clock read at the upstream may be off from the limit's, on a machine that is not frozen.
const JITTER_MS: u64 = 100;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// How many tasks ended how.
    pub(crate) answers: BTreeMap<String, usize>,
    /// Acknowledged pushes that a failover lost.
    pub(crate) lost: usize,
}

/// Waits for what is left, and checks everything.
pub(crate) async fn run(topology: &Topology, upstream: &Upstream, load: &Load<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let results = wait_for_results(topology, load).await;
    let calls = upstream.calls();
    let is_lossy = matches!(topology, Topology::Sentinel(..));
    for task in &load.tasks {
        if let Some(result) = results.get(&task.id) {
            check_result(task, result, &mut verdict);
        }
        if let Some(result) = task.follow_up().and_then(|id| results.get(&id)) {
            check_follow_up(result, &mut verdict);
        }
        for missing in must_exist(task, &results).into_iter().filter(|id| !results.contains_key(id)) {
            if is_lossy {
                verdict.lost += 1;
            } else {
                verdict.violations.push(format!("{missing} has no result"));
            }
        }
    }
    check_groups(load, &results, &mut verdict);
    check_calls(load, &calls, &mut verdict);
    check_rate(&calls, &mut verdict);
    check_nothing_is_left(topology, load, &mut verdict).await;
    check_letters_and_replies(topology, load, &results, &mut verdict).await;
    tokio::time::sleep(UNCHANGED).await;
    for (id, now) in results_now(topology, load).await {
        if results.get(&id).is_some_and(|before| *before != now) {
            verdict.violations.push(format!("the result of {id} changed"));
        }
    }
    verdict
}

/// The ids of the results that must exist, given what was found: that of the task, and that of its follow-up. A chain goes on only
/// after a good result.
fn must_exist(task: &Pushed, found: &HashMap<String, Value>) -> Vec<String> {
    if !task.must_end() {
        return Vec::new();
    }
    let is_followed =
        found.get(&task.id).is_some_and(|result| task.purpose != Purpose::Chained || result["status"] == "ok");
    let follow_up = task.follow_up().filter(|_| is_followed);
    std::iter::once(task.id.clone()).chain(follow_up).collect()
}

async fn wait_for_results(topology: &Topology, load: &Load<'_>) -> HashMap<String, Value> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let found = results_now(topology, load).await;
        let all = load.tasks.iter().flat_map(|task| must_exist(task, &found)).all(|id| found.contains_key(&id));
        if all || Instant::now() > deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn results_now(topology: &Topology, load: &Load<'_>) -> HashMap<String, Value> {
    let mut found = HashMap::new();
    for name in QUEUES {
        let queue = TestQueue::new(topology.primary_url(), name);
        let of_queue = load.tasks.iter().filter(|task| task.queue == name);
        let ids: Vec<String> =
            of_queue.flat_map(|task| std::iter::once(task.id.clone()).chain(task.follow_up())).collect();
        for (id, result) in ids.iter().zip(queue.results(&ids).await) {
            found.extend(result.map(|result| (id.clone(), result)));
        }
    }
    found
}

fn check_result(task: &Pushed, result: &Value, verdict: &mut Verdict) {
    let status = result["status"].as_str().unwrap_or_default();
    let reason = result["reason"].as_str().unwrap_or_default();
    *verdict.answers.entry(format!("{status} {reason}").trim().to_owned()).or_default() += 1;
    let is_right = match task.purpose {
        Purpose::Once => status == "ok" || reason == "outcome_unknown",
        Purpose::Doomed => matches!(reason, "expired" | "attempts_exhausted"),
        Purpose::Invalid => reason == "invalid_task",
        Purpose::Cancelled => reason == "cancelled" || !task.is_cancelled,
        // A worker that is killed three times with the same task in hand may be chance.
        _ => status == "ok" || reason == "crashed_worker",
    };
    if !is_right {
        verdict.violations.push(format!("{} ended as {status} {reason}: {}", task.id, result["error"]));
    }
}

/// The upstream answers every follow-up; a worker that is killed three times with the same one in hand may be chance.
fn check_follow_up(result: &Value, verdict: &mut Verdict) {
    if result["status"] != "ok" && result["reason"] != "crashed_worker" {
        verdict.violations.push(format!("{} ended as {}: {}", result["id"], result["reason"], result["error"]));
    }
}

/// Tasks of one idempotency key have one answer.
fn check_groups(load: &Load<'_>, results: &HashMap<String, Value>, verdict: &mut Verdict) {
    let mut answers: HashMap<&str, Vec<&Value>> = HashMap::new();
    for task in load.tasks.iter().filter(|task| task.purpose == Purpose::Keyed) {
        if let (Some(group), Some(result)) = (&task.group, results.get(&task.id)) {
            answers.entry(group).or_default().push(&result["body"]);
        }
    }
    for (group, mut bodies) in answers {
        bodies.dedup();
        if bodies.len() > 1 {
            verdict
                .violations
                .push(format!("the tasks of {group} have {} different answers: {bodies:?}", bodies.len()));
        }
    }
}

fn check_calls(load: &Load<'_>, calls: &[Request], verdict: &mut Verdict) {
    let mut of_path: HashMap<&str, Vec<&Request>> = HashMap::new();
    for call in calls {
        of_path.entry(call.route()).or_default().push(call);
    }
    for task in &load.tasks {
        match task.purpose {
            Purpose::Once => {
                let times = of_path.get(format!("/once/{}", task.id).as_str()).map_or(0, Vec::len);
                if times > 1 {
                    verdict.violations.push(format!("{} was called {times} times", task.id));
                }
            }
            Purpose::Keyed => {
                let group = task.group.as_deref().unwrap_or_default();
                let calls = of_path.get(format!("/flaky/{group}").as_str()).map_or(&[][..], Vec::as_slice);
                if calls.iter().any(|call| call.headers.get("idempotency-key") != Some(group)) {
                    verdict.violations.push(format!("a call of {} went without its key", task.id));
                }
            }
            Purpose::Delayed => {
                let first = of_path.get(format!("/flaky/{}", task.id).as_str()).and_then(|calls| calls.first());
                if let Some(call) = first.filter(|call| call.unix_ms + 5 < task.at_ms + task.delay_ms) {
                    let early = task.at_ms + task.delay_ms - call.unix_ms;
                    verdict.violations.push(format!("{} was called {early} ms before its time", task.id));
                }
            }
            _ => {}
        }
    }
}

/// In no window do more calls arrive than burst and rate allow. Calls of a worker that was frozen between its permission and its call
/// arrive late, a few at most.
fn check_rate(calls: &[Request], verdict: &mut Verdict) {
    const LATE_CALLS: f64 = 4.0;
    let at: Vec<u64> =
        calls.iter().filter(|call| call.route().starts_with("/limited/")).map(|call| call.unix_ms).collect();
    for (from, first) in at.iter().enumerate() {
        for (to, last) in at.iter().enumerate().skip(from) {
            let span_ms = last.saturating_sub(*first) + JITTER_MS;
            #[expect(clippy::cast_precision_loss, reason = "a few thousand calls in a few minutes")]
            let (count, allowed) = ((to - from + 1) as f64, BURST + RATE * span_ms as f64 / 1_000.0 + LATE_CALLS);
            if count > allowed {
                verdict
                    .violations
                    .push(format!("{count} limited calls within {span_ms} ms: at most {allowed:.0} may go"));
                return;
            }
        }
    }
}

async fn check_nothing_is_left(topology: &Topology, load: &Load<'_>, verdict: &mut Verdict) {
    let db = topology.db();
    for name in QUEUES {
        let queue = db.queue(QueueName::new(name).expect("the queues have valid names"));
        let Ok(overview) = queue.overview().await else {
            verdict.violations.push(format!("queue {name} cannot be read"));
            continue;
        };
        let uncancelled = load
            .tasks
            .iter()
            .filter(|task| task.queue == name && task.purpose == Purpose::Cancelled && !task.is_cancelled)
            .count() as u64;
        let left = overview.waiting + overview.active + overview.scheduled + overview.parked;
        if left > uncancelled {
            verdict.violations.push(format!("queue {name} still holds {left} tasks: {overview:?}"));
        }
    }
}

/// Dead letters hold their producers' bytes, and a reply list every result once.
async fn check_letters_and_replies(
    topology: &Topology,
    load: &Load<'_>,
    results: &HashMap<String, Value>,
    verdict: &mut Verdict,
) {
    for name in QUEUES {
        let queue = TestQueue::new(topology.primary_url(), name);
        let letters: Vec<Vec<u8>> = queue.dead().await.into_iter().map(|letter| letter.raw).collect();
        let of_queue = || load.tasks.iter().filter(|task| task.queue == name);
        for task in of_queue().filter(|task| task.purpose == Purpose::Invalid && results.contains_key(&task.id)) {
            if !letters.iter().any(|raw| raw == task.raw.as_bytes()) {
                verdict.violations.push(format!("the dead letter of {} does not hold its bytes", task.id));
            }
        }
        let list = Load::reply_list(name);
        let replies = queue.list(&list).await;
        for task in of_queue().filter(|task| task.purpose == Purpose::Replied && results.contains_key(&task.id)) {
            let mine = replies.iter().filter(|reply| reply["id"] == task.id.as_str()).count();
            if mine != 1 {
                verdict.violations.push(format!("{} has {mine} replies on its list", task.id));
            }
        }
    }
}
