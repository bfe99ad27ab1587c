//! Drain: on SIGTERM a worker stops claiming, and its tasks are answered or requeued at once, without waiting for a lease.

use std::time::{Duration, Instant};

use redial_tests::{Reply, eventually, stalls};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::snapshot::QueueSnapshot;
use super::{CalledPaths, SOON, Stage, answered, attempts, counter, ids, now_ms, number};

const CALLS: usize = 50;

#[tokio::test]
async fn a_draining_worker_finishes_its_calls_in_flight() {
    let stage = Stage::slow(Duration::from_secs(2)).await;
    let worker = stage.ready_worker().await;
    let ids = ids("t", CALLS);
    stage.push_many(&ids, "/", &json!({})).await;
    stage.wait_in_flight(CALLS).await;

    worker.term();
    let red = || async { (worker.get("/readyz").await.0 == 503).then_some(()) };
    eventually(SOON, red).await;
    assert_eq!(worker.get("/healthz").await.0, 200);
    let status = worker.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
    let results: Option<Vec<Value>> = stage.queue.results(&ids).await.into_iter().collect();
    let results = results.expect("all results exist once the worker has ended");
    assert_eq!(answered(&results), CALLS);
    assert_eq!(stage.upstream.count(), CALLS as u64);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(CALLS);
    assert_eq!(stage.redis.cli(&["ZCARD", "redial:{default}:workers"]).await, "0", "it has signed off");
}

#[tokio::test]
async fn calls_cut_off_by_the_drain_deadline_are_requeued_without_using_an_attempt() {
    let stage = Stage::slow(Duration::from_secs(3)).await;
    let worker = stage.worker().env("REDIAL_DRAIN_MS", "100").spawn();
    let ids = ids("t", CALLS);
    let retry = json!({"retry": {"max_attempts": 1}});
    stage.push_many(&ids, "/", &retry).await;
    stage.wait_in_flight(CALLS).await;
    let other = stage.ready_worker().await;

    let signalled = Instant::now();
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0), "{}", worker.log());
    assert!(signalled.elapsed() < Duration::from_secs(3), "the worker waits for no call");
    let snapshot = QueueSnapshot::take(&stage.redis).await;
    snapshot.assert_each_once(CALLS);
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), CALLS);
    assert!(results.iter().all(|result| attempts(result) == 1), "one attempt each, by the other worker");
    assert_eq!(stage.upstream.count(), 2 * CALLS as u64);
    // At once, not after the lease; the call itself takes 3 s.
    let last = results.iter().map(|result| number(&result["finished_at_ms"])).max();
    let first = stage.upstream.calls()[0].unix_ms;
    assert!(last.unwrap() - first < 9_000, "{} ms", last.unwrap() - first);
    assert_eq!(counter(&other, "redial_tasks_reaped_total").await, 0);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(CALLS);
}

#[tokio::test]
async fn a_second_signal_stops_a_worker_at_once_and_its_tasks_are_requeued() {
    let seen = CalledPaths::default();
    let stage = Stage::answering(move |request| {
        let slow = Duration::from_secs(if seen.is_first_call(request) { 60 } else { 0 });
        Reply::ok().after(slow)
    })
    .await;
    let worker = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    stage.queue.push(json!({"id": "a", "url": stage.url("/")}).to_string()).await;
    stage.wait_in_flight(1).await;
    worker.term();
    let draining = || async { worker.log().contains("draining").then_some(()) };
    eventually(SOON, draining).await;

    // Two signals at the same instant are one stop, sent to the process and to its group.
    sleep(Duration::from_millis(100)).await;
    worker.term();
    let status = worker.wait_exit(Duration::from_secs(5)).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    assert!(worker.log().contains("stopped at once"), "{}", worker.log());
    let _heir = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    assert_eq!(stage.queue.wait_result("a", SOON).await["status"], "ok");
}

#[tokio::test]
async fn a_once_only_call_cut_off_by_a_drain_is_not_repeated() {
    let stage = Stage::slow(Duration::from_secs(60)).await;
    let worker = stage.worker().env("REDIAL_DRAIN_MS", "100").spawn();
    let task = json!({"id": "a", "url": stage.url("/"), "body": {"amount": 1}, "effect": "once"});
    stage.queue.push(task.to_string()).await;
    stage.wait_in_flight(1).await;
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0));
    let result = stage.queue.result("a").await.unwrap();
    assert_eq!(result["reason"], "outcome_unknown");

    let _next = stage.ready_worker().await;
    assert_eq!(stage.queue.dead().await.len(), 1, "a person decides");
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn a_push_during_a_drain_wakes_another_worker_at_once() {
    let stage = Stage::answering(|request| {
        let slow = Duration::from_secs(if request.route() == "/slow" { 3 } else { 0 });
        Reply::ok().after(slow)
    })
    .await;
    let draining = stage.ready_worker().await;
    stage.push_many(&ids("slow", 3), "/slow", &json!({})).await;
    stage.wait_in_flight(3).await;
    let _other = stage.ready_worker().await;
    draining.term();
    // Its last blocking wait may still be registered in Redis.
    for n in 0..40 {
        let task = json!({"id": format!("t{n}"), "url": stage.url(&format!("/ok?key={}", now_ms()))});
        stage.answer(task).await;
        sleep(Duration::from_millis(50)).await;
    }
    for call in stage.upstream.calls_to("/ok") {
        let pushed: u64 = call.query("key").unwrap().parse().unwrap();
        let waited = call.unix_ms.saturating_sub(pushed);
        let stalled = stalls::between(pushed, call.unix_ms);
        assert!(
            waited < 1_000 + stalled,
            "call {} came {waited} ms after its push, {stalled} of them the machine's",
            call.nth
        );
    }
    assert_eq!(draining.wait_exit(SOON).await.code(), Some(0));
    assert_eq!(answered(&stage.queue.wait_results(&ids("slow", 3), SOON).await), 3);
}

#[tokio::test]
async fn an_idle_worker_stops_at_once_even_while_redis_is_down() {
    let stage = Stage::unruly().await;
    let (first, second) = (stage.ready_worker().await, stage.ready_worker().await);
    first.term();
    assert_eq!(first.wait_exit(Duration::from_secs(5)).await.code(), Some(0));

    stage.redis.kill9();
    let away = || async { second.log().contains("Redis does not answer").then_some(()) };
    eventually(SOON, away).await;
    second.term();
    let status = second.wait_exit(Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(0), "{}", second.log());
}

#[tokio::test]
async fn a_rolling_restart_under_load_repeats_no_call() {
    const TASKS: usize = 600;
    let stage = Stage::slow(Duration::from_millis(100)).await;
    let start = || stage.worker().env("REDIAL_CONCURRENCY", "8").spawn();
    let mut workers = [start(), start()];
    let ids = ids("t", TASKS);
    stage.push_many(&ids, "/", &json!({})).await;
    for turn in 0..4 {
        sleep(Duration::from_millis(600)).await;
        let old = std::mem::replace(&mut workers[turn % 2], start());
        old.term();
        assert_eq!(old.wait_exit(SOON).await.code(), Some(0), "{}", old.log());
    }
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), TASKS);
    assert_eq!(stage.upstream.count(), TASKS as u64);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(TASKS);
}
