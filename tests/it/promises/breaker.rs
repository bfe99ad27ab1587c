//! An upstream that is down is not called, and no task loses attempts to it; retries stay within their budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redial_tests::stalls::now_ms;
use redial_tests::{Cli, Reply, Request, eventually, stalls};
use serde_json::{Value, json};

use super::{SOON, Stage, answered, attempts, ids};

fn answer(is_good: bool) -> Reply {
    if is_good { Reply::ok().json(&json!({"ok": true})) } else { Reply::status(503) }
}

/// A stage whose upstream answers 503 while the switch is on, and 200 while it is off.
async fn stage_with_switch() -> (Stage, Arc<AtomicBool>) {
    let is_down = Arc::new(AtomicBool::new(true));
    let switch = is_down.clone();
    let answer = move |_: &Request| answer(!switch.load(Ordering::SeqCst));
    (Stage::answering(answer).await, is_down)
}

/// Waits until the upstream has had no call for a second: its breaker is open.
async fn until_left_alone(stage: &Stage) {
    let mut seen = 0;
    while seen == 0 || stage.upstream.count() != seen {
        seen = stage.upstream.count();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_gets_one_probe_at_a_time_and_a_gradual_recovery() {
    let (stage, is_down) = stage_with_switch().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(stage.worker().env("REDIAL_CONCURRENCY", "50").spawn());
    }
    let ids = ids("t", 1_000);
    stage.push_many(&ids, "/x", &json!({"retry": {"max_attempts": 2}})).await;
    until_left_alone(&stage).await;
    let left_alone = now_ms();
    tokio::time::sleep(Duration::from_secs(27)).await;
    is_down.store(false, Ordering::SeqCst);
    let back = now_ms();
    let results = stage.queue.wait_results(&ids, Duration::from_secs(90)).await;
    assert_eq!(answered(&results), 1_000);
    let calls: Vec<u64> = stage.upstream.calls().iter().map(|call| call.unix_ms).collect();

    let probes: Vec<u64> = calls.iter().copied().filter(|at| (left_alone..back).contains(at)).collect();
    assert!((3..=7).contains(&probes.len()), "{} probes in {} ms", probes.len(), back - left_alone);
    for pair in probes.windows(2) {
        let apart = pair[1] - pair[0] + stalls::between(pair[0] - 600, pair[0]) + 100;
        assert!(apart >= 5_000, "two probes within {apart} ms");
    }
    let mut two = 0;
    for result in &results {
        // Only probes were repeated, and probes cost no attempt: with a single attempt each, all tasks are answered.
        two += usize::from(attempts(result) > 2);
    }
    assert!(two <= probes.len() + 2, "{two} tasks were called more than twice");
    let last = *calls.last().unwrap();
    let most = 10_000 + stalls::between(back, last);
    assert!(last - back <= most, "{} ms from its recovery to the last call", last - back);
    ramps(&calls.into_iter().filter(|at| *at >= back).collect::<Vec<_>>());
}

/// After the probe, at most 10 calls are made in the first half second, 20 in the next, and so on.
fn ramps(calls: &[u64]) {
    let first = calls[0];
    for (n, at) in calls.iter().enumerate() {
        let held_up = 100 + stalls::between(at - 600, *at);
        let steps = (at - first + held_up) / 500;
        let most = 1 + 10 * ((1_u64 << (steps + 1).min(20)) - 1);
        assert!(n as u64 <= most, "{n} calls within {} ms of its recovery, {most} at most", at - first);
    }
}

#[tokio::test]
async fn retries_stay_within_their_budget_when_half_of_all_calls_fail() {
    let stage = Stage::answering(|_| answer(rand::random())).await;
    let _workers: Vec<_> = (0..2).map(|_| stage.worker().spawn()).collect();
    let ids = ids("t", 300);
    let more = json!({"retry": {"max_attempts": 30, "base_ms": 10, "cap_ms": 100}});
    let urls = ids.iter().map(|id| {
        let mut task = more.clone();
        task["id"] = json!(id);
        task["url"] = json!(stage.url(&format!("/x?{id}")));
        task.to_string()
    });
    stage.queue.push_all(urls).await;
    let results = stage.queue.wait_results(&ids, Duration::from_secs(150)).await;
    assert_eq!(answered(&results), 300);
    let calls = stage.upstream.calls();
    let (start, mut first_calls, mut retries) = (calls[0].unix_ms, std::collections::HashSet::new(), 0_u64);
    for call in &calls {
        if first_calls.insert(call.path.clone()) {
            continue;
        }
        retries += 1;
        let span = call.unix_ms - start + 100 + stalls::between(call.unix_ms - 600, call.unix_ms);
        // A tenth of a second's worth of calls may be in flight at the same time.
        let most = 10 + first_calls.len() as u64 / 5 + span / 100 + 2;
        assert!(retries <= most, "{retries} retries within {span} ms and {} first calls", first_calls.len());
    }
    assert!(retries >= 150, "{retries}");
}

#[tokio::test]
async fn an_upstream_that_fails_only_first_calls_does_not_keep_its_breaker_open() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_RETRY_BUDGET_PER_S", "1000").spawn();
    let ids = ids("t", 600);
    let tasks = ids.iter().map(|id| json!({"id": id, "url": stage.url(&format!("/flaky/1/503?key={id}"))}).to_string());
    stage.queue.push_all(tasks).await;
    let results = stage.queue.wait_results(&ids, Duration::from_secs(60)).await;
    assert_eq!(answered(&results), 600);
}

#[tokio::test]
async fn tasks_for_an_upstream_that_never_recovers_are_dead_lettered_one_probe_at_a_time() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_BREAKER_PROBE_MS", "100").spawn();
    let ids = ids("t", 24);
    stage.push_many(&ids, "/status/503", &json!({"retry": {"max_attempts": 2, "base_ms": 1}})).await;
    let results = stage.queue.wait_results(&ids, Duration::from_secs(120)).await;
    for result in &results {
        assert_eq!((&result["status"], &result["reason"]), (&json!("dead"), &json!("attempts_exhausted")), "{result}");
        assert!(attempts(result) >= 2, "{result}");
    }
}

#[tokio::test]
async fn a_task_waiting_for_a_breaker_expires_on_time_and_an_upstream_without_a_breaker_is_called() {
    let (stage, _is_down) = stage_with_switch().await;
    // After the first probe there is no other for a minute, and the late task must not become one.
    let worker = stage.worker().env("REDIAL_BREAKER_PROBE_MS", "60000").spawn();
    worker.wait_ready().await;
    let many = ids("t", 60);
    stage.push_many(&many, "/x", &json!({})).await;
    until_left_alone(&stage).await;
    let late = stage.answer(json!({"id": "late", "url": stage.url("/x"), "expires_at_ms": now_ms() + 2_000})).await;
    assert_eq!(late["reason"], json!("expired"), "{late}");
    assert_eq!(attempts(&late), 0);
    assert!(worker.log().contains("its breaker is open"));
    let cli = Cli::new(&stage.redis);
    let listed: Value = serde_json::from_str(&cli.run(&["--json", "breakers"]).await.stdout).unwrap();
    assert_eq!((&listed["upstream"], &listed["state"]), (&json!(stage.upstream.address()), &json!("open")));
    assert!(cli.run(&["breakers"]).await.stdout.contains("  open  for "), "the text output shows the state");

    let open = Stage::answering(|_| Reply::status(503)).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("redial.toml");
    std::fs::write(&settings, format!("[[upstream]]\nurl = \"{}\"\nbreaker = false\n", open.url("/"))).unwrap();
    let _worker = open.worker().env("REDIAL_CONFIG", settings.to_str().unwrap()).spawn();
    open.push_many(&many, "/x", &json!({"retry": {"max_attempts": 2, "base_ms": 1}})).await;
    open.queue.wait_results(&many, SOON).await;
    assert_eq!(open.upstream.count(), 120);
}

#[tokio::test]
async fn tasks_waiting_for_a_breaker_survive_the_worker_that_drains_them() {
    let (stage, is_down) = stage_with_switch().await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    let worker = start();
    let ids = ids("t", 200);
    stage.push_many(&ids, "/x", &json!({})).await;
    until_left_alone(&stage).await;
    worker.kill9();
    is_down.store(false, Ordering::SeqCst);
    let _other = start();
    let results = stage.queue.wait_results(&ids, Duration::from_secs(60)).await;
    assert_eq!(answered(&results), 200);
}

/// How many commands Redis has carried out, those of scripts included.
async fn commands(stage: &Stage) -> u64 {
    let stats = stage.redis.cli(&["INFO", "commandstats"]).await;
    let calls = |line: &str| line.split_once("calls=")?.1.split_once(',')?.0.parse::<u64>().ok();
    stats.lines().filter_map(calls).sum()
}

#[tokio::test]
async fn many_upstreams_that_stay_down_cost_one_look_a_probe_interval_and_no_polling() {
    const UPSTREAMS: usize = 30;
    let stage = Stage::unruly().await;
    let _workers: Vec<_> = (0..4).map(|_| stage.worker().env("REDIAL_BREAKER_PROBE_MS", "60000").spawn()).collect();
    // Nothing listens there.
    let tasks = (0..UPSTREAMS * 30).map(|n| {
        let host = format!("127.0.7.{}", 1 + n % UPSTREAMS);
        json!({"id": format!("t{n}"), "url": format!("http://{host}:9/"), "effect": "idempotent"}).to_string()
    });
    stage.queue.push_all(tasks).await;
    let breakers = || async {
        let open = stage.redis.cli(&["ZCARD", "redial:breakers"]).await;
        (open.trim() == UPSTREAMS.to_string()).then_some(())
    };
    eventually(SOON, breakers).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (before, started) = (commands(&stage).await, std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(15)).await;
    let per_s = (commands(&stage).await - before) / started.elapsed().as_secs();
    // Four workers' heartbeats and idle looks, and a few late retries.
    assert!(per_s <= 150, "{per_s} commands a second");
}

#[tokio::test]
async fn tasks_that_ask_for_too_little_time_close_no_upstream_for_others() {
    let stage = Stage::slow(Duration::from_millis(400)).await;
    let _worker = stage.ready_worker().await;
    let once = json!({"max_attempts": 1});
    for (name, fields) in [
        ("tiny", json!({"timeout_ms": 1, "retry": once})),
        ("short", json!({"timeout_ms": 300, "retry": once})),
        ("connect", json!({"connect_timeout_ms": 1, "timeout_ms": 100, "retry": once})),
    ] {
        let hasty = ids(name, 200);
        stage.push_many(&hasty, "/x", &fields).await;
        stage.queue.wait_results(&hasty, SOON).await;
        let others = ids(&format!("after {name}"), 5);
        stage.push_many(&others, "/x", &json!({"retry": once})).await;
        assert_eq!(answered(&stage.queue.wait_results(&others, SOON).await), others.len());
        assert_eq!(Cli::new(&stage.redis).run(&["--json", "breakers"]).await.stdout, "", "{name}");
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_is_noticed_by_tasks_that_ask_for_a_fair_time() {
    let stage = Stage::slow(Duration::from_secs(3_600)).await;
    let _worker = stage.ready_worker().await;
    stage.push_many(&ids("t", 40), "/x", &json!({"timeout_ms": 1_500, "retry": {"max_attempts": 1}})).await;
    let is_open =
        async || Cli::new(&stage.redis).run(&["--json", "breakers"]).await.stdout.contains("open").then_some(());
    eventually(SOON, is_open).await;
}
