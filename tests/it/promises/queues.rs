//! Several queues with weights, and idle workers that a push wakes at once.

use std::time::Duration;

use redial_tests::{TestQueue, Upstream, Worker, eventually, stalls};
use serde_json::json;
use tokio::time::sleep;

use super::{SOON, Stage, answered, assert_counted, counter, ids, now_ms};

/// An idle worker looks at its queues only every second, so a call that comes sooner was made because its push woke the worker.
const WAKE_LIMIT_MS: u64 = 700;

#[tokio::test]
async fn queues_are_served_by_weight_and_none_starves() {
    let stage = Stage::slow(Duration::from_millis(5)).await;
    let critical = TestQueue::new(&stage.redis, "critical");
    let (urgent, usual) = (ids("c", 120), ids("d", 60));
    let task = |id: &String, queue: &str| json!({"id": id, "url": stage.url(&format!("/{queue}"))}).to_string();
    critical.push_all(urgent.iter().map(|id| task(id, "critical"))).await;
    stage.queue.push_all(usual.iter().map(|id| task(id, "default"))).await;

    let worker = stage.worker().env("REDIAL_QUEUES", "critical=6,default=1");
    let _worker = worker.env("REDIAL_CONCURRENCY", "2").spawn();
    assert_eq!(answered(&critical.wait_results(&urgent, SOON).await), 120);
    assert_eq!(answered(&stage.queue.wait_results(&usual, SOON).await), 60);

    let calls = stage.upstream.calls();
    let early = calls[..105].iter().filter(|call| call.route() == "/default");
    let early = early.count();
    // One in seven would be 15.
    assert!((10..=22).contains(&early), "{early} of the first 105");
}

#[tokio::test]
async fn a_push_wakes_an_idle_worker_at_once() {
    let stage = Stage::unruly().await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(stage.ready_worker().await);
    }
    for n in 0..150_u64 {
        let task = json!({"id": format!("t{n}"), "url": stage.url(&format!("/ok?key={}", now_ms()))});
        stage.queue.push(task.to_string()).await;
        // The pauses vary, so that a claim takes one task or several.
        sleep(Duration::from_millis(n * 7 % 40)).await;
    }
    stage.queue.wait_results(&ids("t", 150), SOON).await;
    assert_woken_by_push(&stage.upstream);
    for worker in &workers {
        assert_eq!(counter(worker, "redial_redis_errors_total").await, 0);
    }
}

#[tokio::test]
async fn a_push_that_woke_a_worker_without_a_free_slot_wakes_another() {
    let stage = Stage::slow(Duration::from_millis(2_200)).await;
    let queues = ["a", "b"].map(|name| TestQueue::new(&stage.redis, name));
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..2 {
        let worker = stage.worker().env("REDIAL_QUEUES", "a,b");
        let worker = worker.env("REDIAL_CONCURRENCY", "1").spawn();
        worker.wait_ready().await;
        workers.push(worker);
    }
    // A worker is ready before all its connections wait for pushes; until they do, it looks once a second.
    let listening = || async { (stage.redis.info_number("blocked_clients").await >= 4).then_some(()) };
    eventually(SOON, listening).await;
    let mut connection = stage.redis.connection().await;
    for round in 0..4 {
        // Both at once: the worker that has waited longest is woken for both, but has room for only one.
        let mut pushes = redis::pipe();
        for queue in &queues {
            let url = stage.url(&format!("/?key={}", now_ms()));
            let task = json!({"id": format!("t{round}"), "url": url}).to_string();
            pushes.lpush(queue.key(), task);
        }
        pushes.exec_async(&mut connection).await.unwrap();
        for queue in &queues {
            queue.wait_result(&format!("t{round}"), SOON).await;
        }
    }
    assert_woken_by_push(&stage.upstream);
}

#[tokio::test]
async fn idle_workers_send_redis_almost_no_commands() {
    let stage = Stage::unruly().await;
    let worker = stage.ready_worker().await;
    let commands = || stage.redis.info_number("total_commands_processed");
    let (before, cpu) = (commands().await, worker.cpu_time());
    sleep(Duration::from_secs(4)).await;
    let asked = commands().await - before;
    // In 4 s: four looks, and two announcements of four commands each.
    assert!(asked < 40, "{asked} commands in 4 s");
    let cpu = worker.cpu_time().saturating_sub(cpu);
    assert!(cpu < Duration::from_millis(500), "{cpu:?} of CPU time");

    let task = json!({"id": "a", "url": stage.url(&format!("/ok?key={}", now_ms()))});
    stage.answer(task).await;
    assert_woken_by_push(&stage.upstream);
    assert_counted(&worker, "redial_slots_in_use", 0).await;
}

/// Asserts that every call came soon after its push; the call's key is the time of the push.
fn assert_woken_by_push(upstream: &Upstream) {
    for call in upstream.calls() {
        let pushed: u64 = call.query("key").unwrap().parse().unwrap();
        let waited = call.unix_ms.saturating_sub(pushed);
        let stalled = stalls::between(pushed, call.unix_ms);
        assert!(
            waited < WAKE_LIMIT_MS + stalled,
            "call {} came {waited} ms after its push, {stalled} ms of which the machine stood still",
            call.nth
        );
    }
}
