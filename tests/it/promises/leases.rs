//! Leases: a living worker keeps its tasks and its concurrency slots, whatever the clock of Redis does and however far away Redis is; a
//! dead one loses them in time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redial_tests::{Proxy, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::json;
use tokio::time::sleep;

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, counter, ids};

const MINUTE: Duration = Duration::from_secs(60);

/// A Redis whose clock the test sets, and an upstream that takes this long.
async fn stage_with_clock(delay: Duration) -> Stage {
    redial_tests::stalls::watch();
    let redis = RedisServer::with_fake_clock().await;
    let queue = TestQueue::new(&redis, "default");
    let upstream = Upstream::start(move |_| Reply::ok().after(delay)).await;
    Stage { redis, queue, upstream }
}

#[tokio::test]
async fn no_step_of_redis_clock_takes_a_task_from_a_living_worker() {
    const CALLS: usize = 60;
    for step_ms in [9_000, 3_600_000, -3_600_000] {
        let stage = stage_with_clock(Duration::from_secs(6)).await;
        let start = || stage.worker().env("REDIAL_CONCURRENCY", "40").spawn();
        let workers = [start(), start()];
        let ids = ids("t", CALLS);
        stage.push_many(&ids, "/", &json!({})).await;
        stage.wait_in_flight(CALLS).await;
        stage.redis.set_clock(step_ms);
        assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), CALLS, "{step_ms}");
        assert_eq!(stage.upstream.count(), CALLS as u64, "{step_ms}: no call is made again");
        for worker in &workers {
            assert_eq!(counter(worker, "redial_tasks_reaped_total").await, 0, "{step_ms}");
            assert_eq!(counter(worker, "redial_lost_leases_total").await, 0, "{step_ms}");
        }
        QueueSnapshot::take(&stage.redis).await.assert_all_ended(CALLS);
    }
}

#[tokio::test]
async fn a_clock_that_was_set_forward_frees_no_concurrency_slot_and_those_of_a_killed_worker_come_back() {
    const SLOTS: usize = 3;
    const CALL: Duration = Duration::from_secs(5);
    let stage = stage_with_clock(CALL).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "4000").spawn();
    let (doomed, _other) = (start(), start());
    let ids = ids("t", 4 * SLOTS);
    let limit = json!({"limit": {"name": "few", "concurrency": SLOTS}});
    stage.push_many(&ids[..2 * SLOTS], "/", &limit).await;
    stage.wait_in_flight(SLOTS).await;
    stage.redis.set_clock(9_000);
    sleep(Duration::from_secs(2)).await;
    stage.redis.set_clock(600_000);
    assert_eq!(answered(&stage.queue.wait_results(&ids[..2 * SLOTS], SOON).await), 2 * SLOTS);
    let calls = stage.upstream.calls();
    assert_eq!(calls.len(), 2 * SLOTS);
    let call_ms = u64::try_from(CALL.as_millis()).unwrap() - 100;
    for pair in calls.windows(SLOTS + 1) {
        let apart = pair[SLOTS].unix_ms.saturating_sub(pair[0].unix_ms);
        assert!(apart >= call_ms, "{} calls within {apart} ms", SLOTS + 1);
    }

    stage.push_many(&ids[2 * SLOTS..], "/", &limit).await;
    stage.wait_in_flight(SLOTS).await;
    doomed.kill9();
    assert_eq!(answered(&stage.queue.wait_results(&ids[2 * SLOTS..], MINUTE).await), 2 * SLOTS);
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_worker_spin_and_the_tasks_of_a_killed_one_are_taken_back_in_time() {
    const HELD: usize = 20;
    for step_ms in [-800, -3_600_000] {
        let stage = stage_with_clock(Duration::from_secs(2)).await;
        let workers = [stage.ready_worker().await, stage.ready_worker().await];
        // Tasks that become due are what a worker whose estimate of the time is ahead would ask for again and again.
        let later = ids("later", 10);
        stage.push_many(&later, "/", &json!({"delay_ms": 3_000})).await;
        let scheduled =
            || async { (stage.redis.cli(&["ZCARD", "redial:{default}:scheduled"]).await == "10").then_some(()) };
        eventually(SOON, scheduled).await;

        stage.redis.set_clock(step_ms);
        let before = stage.redis.info_number("total_commands_processed").await;
        let since = Instant::now();
        sleep(Duration::from_secs(5)).await;
        let asked = stage.redis.info_number("total_commands_processed").await - before;
        let per_second = asked / since.elapsed().as_secs().max(1);
        assert!(per_second < 150, "{step_ms}: {per_second} commands a second");

        let [doomed, heir] = workers;
        heir.pause();
        let ids = ids("t", HELD);
        stage.push_many(&ids, "/", &json!({})).await;
        stage.wait_in_flight(HELD).await;
        heir.resume();
        doomed.kill9();
        let killed = Instant::now();
        assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), HELD);
        assert!(killed.elapsed() < Duration::from_secs(15), "{step_ms}: {:?} after the kill", killed.elapsed());
        // The ten that were scheduled may have been among those that it held.
        let reaped = counter(&heir, "redial_tasks_reaped_total").await;
        assert!((HELD as u64..=HELD as u64 + 10).contains(&reaped), "{reaped}");
    }
}

#[tokio::test]
async fn a_worker_with_a_short_lease_leaves_the_tasks_of_one_with_a_long_lease_alone() {
    const CALLS: usize = 10;
    let stage = Stage::slow(Duration::from_secs(9)).await;
    let long = stage.worker().env("REDIAL_LEASE_MS", "30000").spawn();
    long.wait_ready().await;
    let ids = ids("t", CALLS);
    stage.push_many(&ids, "/", &json!({})).await;
    stage.wait_in_flight(CALLS).await;
    // Between two of its heartbeats, which are 7.5 s apart, several leases of the other pass.
    let short = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), CALLS);
    assert_eq!(stage.upstream.count(), CALLS as u64);
    assert_eq!(counter(&short, "redial_tasks_reaped_total").await, 0);
}

#[tokio::test]
async fn eight_hundred_limits_with_calls_in_flight_keep_their_slots_far_from_redis() {
    const LIMITS: usize = 800;
    const RIVALS: usize = 40;
    let stage = Stage::slow(Duration::from_secs(12)).await;
    let proxy = Proxy::before(stage.redis.port()).await;
    proxy.set_delay(Duration::from_millis(6));
    let start = |url: &str| {
        let worker = Worker::builder(url).env("REDIAL_LEASE_MS", "8000");
        worker.env("REDIAL_CONCURRENCY", "1000").spawn()
    };
    let far = start(&proxy.url());
    far.wait_ready().await;
    let task = |id: &str, n: usize| {
        let limit = json!({"name": format!("l{n}"), "concurrency": 1});
        json!({"id": id, "url": stage.url(&format!("/{n}")), "limit": limit}).to_string()
    };
    let first = ids("first", LIMITS);
    stage.queue.push_all(first.iter().enumerate().map(|(n, id)| task(id, n))).await;
    stage.wait_in_flight(LIMITS).await;
    // Each limit has one slot, and its call is in flight: these wait until it has ended.
    let near = start(stage.redis.url());
    let rivals = ids("rival", RIVALS);
    stage.queue.push_all(rivals.iter().enumerate().map(|(n, id)| task(id, n * LIMITS / RIVALS))).await;
    assert_eq!(answered(&stage.queue.wait_results(&first, MINUTE).await), LIMITS);
    assert_eq!(answered(&stage.queue.wait_results(&rivals, MINUTE).await), RIVALS);

    assert_eq!(stage.upstream.count(), (LIMITS + RIVALS) as u64, "no call is made twice");
    for worker in [&far, &near] {
        assert_eq!(counter(worker, "redial_tasks_reaped_total").await, 0);
        assert_eq!(counter(worker, "redial_lost_leases_total").await, 0);
    }
    let mut last: HashMap<String, u64> = HashMap::new();
    for call in stage.upstream.calls() {
        if let Some(before) = last.insert(call.route().to_owned(), call.unix_ms) {
            let apart = call.unix_ms.saturating_sub(before);
            assert!(apart >= 11_900, "{}: the second call began {apart} ms after the first", call.route());
        }
    }
}
