//! Redis killed, down, frozen or without its scripts: workers keep what they hold and continue when it is back.

use std::time::{Duration, Instant};

use redial_tests::{RedisServer, Worker, eventually};
use serde_json::json;
use tokio::time::sleep;

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, counter, ids};

const MB: u64 = 1 << 20;

#[tokio::test]
async fn two_thousand_tasks_survive_redis_kills() {
    const TASKS: usize = 2_000;
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let ids = ids("t", TASKS);
    stage.push_many(&ids, "/", &json!({})).await;
    wait_written(&stage.redis).await;
    let start = || stage.worker().env("REDIAL_CONCURRENCY", "16").spawn();
    let workers = [start(), start()];

    for so_far in [400, 900, 1_400] {
        let enough = || async { (stage.upstream.count() >= so_far).then_some(()) };
        eventually(SOON, enough).await;
        stage.redis.kill9();
        sleep(Duration::from_millis(700)).await;
        stage.redis.restart().await;
    }
    let results = stage.queue.wait_results(&ids, Duration::from_secs(60)).await;
    assert_eq!(answered(&results), TASKS);
    let nothing_left = || async { (QueueSnapshot::take(&stage.redis).await.count("ended") == TASKS).then_some(()) };
    eventually(SOON, nothing_left).await;
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(TASKS);
    for worker in &workers {
        assert_bounded(worker);
    }
    // Only tasks that were in flight at a kill may have been called twice.
    let calls = stage.upstream.count();
    assert!(calls <= TASKS as u64 + 3 * 2 * 16, "{calls} calls");
}

#[tokio::test]
async fn answers_received_while_redis_is_down_are_held_and_then_stored() {
    const CALLS: usize = 60;
    let stage = Stage::slow(Duration::from_secs(3)).await;
    let (worker, idle) = (stage.ready_worker().await, stage.ready_worker().await);
    let ids = ids("t", CALLS);
    stage.push_many(&ids, "/", &json!({"reply_to": "answers:mine"})).await;
    stage.wait_in_flight(CALLS).await;
    wait_written(&stage.redis).await;

    stage.redis.kill9();
    let cpu = || worker.cpu_time() + idle.cpu_time();
    let tries = async || {
        counter(&worker, "redial_redis_errors_total").await + counter(&idle, "redial_redis_errors_total").await
    };
    let (before, gone, tries_before) = (cpu(), Instant::now(), tries().await);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(stage.upstream.in_flight(), 0, "every call has ended meanwhile");
    // Backoff grows to 2 s, so each of a worker's five Redis users makes about ten attempts. A busy loop would make thousands.
    let tries = tries().await - tries_before;
    assert!((4..=200).contains(&tries), "{tries} attempts in {:?}", gone.elapsed());
    let spent = cpu().saturating_sub(before);
    assert!(spent < gone.elapsed() * 3 / 4, "{spent:?} of CPU time in {:?}: a busy loop", gone.elapsed());

    stage.redis.restart().await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), CALLS);
    // Every lease expired while Redis was down, through no fault of a worker.
    assert_eq!(stage.upstream.count(), CALLS as u64, "no call is made again");
    assert_eq!(stage.redis.cli(&["LLEN", "answers:mine"]).await, CALLS.to_string());
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(CALLS);
    assert_bounded(&worker);
    assert_bounded(&idle);
}

#[tokio::test]
async fn a_script_flush_goes_unnoticed() {
    const TASKS: usize = 300;
    let stage = Stage::slow(Duration::from_millis(10)).await;
    let worker = stage.worker().env("REDIAL_CONCURRENCY", "4").spawn();
    let ids = ids("t", TASKS);
    stage.push_many(&ids, "/", &json!({})).await;
    while stage.upstream.count() < TASKS as u64 {
        stage.redis.cli(&["SCRIPT", "FLUSH"]).await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), TASKS);
    assert_eq!(stage.upstream.count(), TASKS as u64);
    assert_eq!(counter(&worker, "redial_redis_errors_total").await, 0);
    assert!(!worker.log().contains("WARN"), "{}", worker.log());
}

#[tokio::test]
async fn a_hanging_redis_is_detected_and_turns_readiness_red() {
    let stage = Stage::slow(Duration::from_secs(2)).await;
    let (worker, idle) = (stage.ready_worker().await, stage.ready_worker().await);
    let held = ids("held", 20);
    stage.push_many(&held, "/", &json!({})).await;
    stage.wait_in_flight(held.len()).await;

    stage.redis.pause();
    let frozen = Instant::now();
    for worker in [&worker, &idle] {
        let red = || async { (worker.get("/readyz").await.0 == 503).then_some(()) };
        eventually(Duration::from_millis(6_900).saturating_sub(frozen.elapsed()), red).await;
        assert_eq!(worker.get("/healthz").await.0, 200, "alive, only not ready");
    }
    sleep(Duration::from_secs(7).saturating_sub(frozen.elapsed())).await;
    stage.redis.resume();

    let results = stage.queue.wait_results(&held, SOON).await;
    assert_eq!(answered(&results), held.len());
    worker.wait_ready().await;
    idle.wait_ready().await;
    let later = ids("later", 20);
    stage.push_many(&later, "/", &json!({})).await;
    assert_eq!(answered(&stage.queue.wait_results(&later, SOON).await), later.len());
    assert_eq!(stage.upstream.count(), 40, "no call is made again");
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(40);
    assert_bounded(&worker);
}

#[tokio::test]
async fn a_worker_started_before_redis_begins_work_once_redis_is_up() {
    let stage = Stage::unruly().await;
    let task = json!({"id": "a", "url": stage.url("/ok")});
    stage.queue.push(task.to_string()).await;
    wait_written(&stage.redis).await;
    stage.redis.kill9();
    let worker = stage.worker().spawn();
    let red = || async {
        (worker.log().contains("Redis does not answer") && worker.get("/readyz").await.0 == 503).then_some(())
    };
    eventually(SOON, red).await;
    stage.redis.restart().await;
    assert_eq!(stage.queue.wait_result("a", SOON).await["status"], "ok");
    worker.wait_ready().await;
}

#[tokio::test]
async fn a_worker_can_drain_a_redis_that_is_out_of_memory() {
    let stage = Stage::slow(Duration::ZERO).await;
    let ids = ids("t", 500);
    stage.push_many(&ids, "/", &json!({"meta": "m".repeat(500)})).await;
    stage.redis.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let full = stage.queue.try_push("{}").await.unwrap_err();
    assert!(full.to_string().contains("maxmemory"), "{full}");
    let _worker = stage.worker().spawn();
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), ids.len());
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(ids.len());
}

/// Waits until Redis has handed everything that it acknowledged to the kernel, so that a kill cannot lose it.
async fn wait_written(redis: &RedisServer) {
    let written = || async {
        let buffered = redis.info_number("aof_buffer_length").await;
        (buffered == 0).then_some(())
    };
    eventually(SOON, written).await;
}

/// Asserts that memory and log of a worker stayed small through an outage.
fn assert_bounded(worker: &Worker) {
    let (memory, log) = (worker.peak_rss_bytes(), worker.log());
    assert!(memory < 150 * MB, "{memory} bytes of memory");
    assert!(log.len() < 20_000, "{} bytes of log, ending: {}", log.len(), &log[log.len() - 2_000..]);
}
