//! One call for all identical tasks that wait at the same time, however their leader ends.

use std::time::Duration;

use redial_tests::{Reply, TestQueue, Worker, eventually};
use serde_json::{Value, json};

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, assert_counted, counter, ids, number};

const MANY: usize = 1_000;
/// Generous, because tests run in parallel on small machines; the benchmarks measure to the millisecond.
const AT_ONCE_MS: u64 = 2_000;

async fn push_identical(stage: &Stage, ids: &[String]) {
    stage.push_many(ids, "/", &json!({"body": {"prompt": "hi"}, "cache_ttl_ms": 60_000})).await;
}

/// How many tasks are parked.
async fn following(stage: &Stage) -> usize {
    QueueSnapshot::take(&stage.redis).await.count("parked")
}

async fn wait_following(stage: &Stage, tasks: usize) {
    eventually(SOON, || async { (following(stage).await == tasks).then_some(()) }).await;
}

async fn slots_in_use(workers: &[Worker]) -> u64 {
    let mut sum = 0;
    for worker in workers {
        sum += counter(worker, "redial_slots_in_use").await;
    }
    sum
}

/// How many of these results have each source.
fn sources(results: &[Value], source: &str) -> usize {
    results.iter().filter(|result| result["source"] == source).count()
}

#[tokio::test]
async fn a_thousand_identical_tasks_make_one_call_and_hold_one_slot() {
    let stage = Stage::slow(Duration::from_secs(4)).await;
    let workers: Vec<Worker> = (0..4).map(|_| stage.worker().spawn()).collect();
    for worker in &workers {
        worker.wait_ready().await;
    }
    let ids = ids("t", MANY);
    push_identical(&stage, &ids).await;
    wait_following(&stage, MANY - 1).await;
    eventually(SOON, || async { (slots_in_use(&workers).await <= 4).then_some(()) }).await;
    assert_eq!(stage.upstream.in_flight(), 1, "the call is still being made");
    QueueSnapshot::take(&stage.redis).await.assert_each_once(MANY);

    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), MANY);
    assert_eq!(stage.upstream.count(), 1);
    assert_eq!((sources(&results, "call"), sources(&results, "shared")), (1, MANY - 1));
    let at = |result: &Value| number(&result["finished_at_ms"]);
    let leaders = results.iter().find(|result| result["source"] == "call").map(at).unwrap();
    let last = results.iter().map(at).max().unwrap();
    assert!(last - leaders <= AT_ONCE_MS, "the last follower was answered {} ms after its leader", last - leaders);
    for (id, result) in ids.iter().zip(&results) {
        assert_eq!((&result["id"], &result["body"]), (&json!(id), &json!({"ok": true})));
    }
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(MANY);
    let mut saved = 0;
    for worker in &workers {
        saved += counter(worker, "redial_calls_saved_total").await;
    }
    assert_eq!(saved, MANY as u64 - 1);
}

#[tokio::test]
async fn killing_the_leaders_worker_costs_at_most_one_more_call() {
    let stage = Stage::slow(Duration::from_secs(3)).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "3000").spawn();
    let workers: Vec<Worker> = (0..4).map(|_| start()).collect();
    for worker in &workers {
        worker.wait_ready().await;
    }
    let ids = ids("t", MANY);
    push_identical(&stage, &ids).await;
    wait_following(&stage, MANY - 1).await;
    eventually(SOON, || async { (slots_in_use(&workers).await == 1).then_some(()) }).await;
    for worker in &workers {
        if counter(worker, "redial_slots_in_use").await > 0 {
            worker.kill9();
        }
    }
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), MANY);
    assert_eq!(stage.upstream.count(), 2);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(MANY);
}

#[tokio::test]
async fn a_dead_leader_is_replaced_by_the_next_follower() {
    // The first two calls are rejected; the third succeeds.
    let stage = Stage::answering(|request| match request.nth {
        0 | 1 => Reply::status(400).after(Duration::from_millis(700)),
        _ => Reply::ok().after(Duration::from_millis(300)),
    })
    .await;
    let worker = stage.ready_worker().await;
    let ids = ids("t", 50);
    push_identical(&stage, &ids).await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    let rejected = results.iter().filter(|result| result["reason"] == "rejected");
    assert_eq!((rejected.count(), answered(&results)), (2, 48), "a failure is its own, and is not kept");
    assert_eq!(stage.upstream.count(), 3);
    assert_counted(&worker, "redial_memo_total{queue=\"default\",purpose=\"cache\",event=\"miss\"}", 3).await;
}

#[tokio::test]
async fn an_expired_leader_is_replaced_by_the_next_follower() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(503),
        _ => Reply::ok(),
    })
    .await;
    let _worker = stage.ready_worker().await;
    let slow = json!({"base_ms": 60_000, "cap_ms": 60_000, "jitter": "none"});
    let leader =
        json!({"id": "leader", "url": stage.url("/"), "cache_ttl_ms": 60_000, "ttl_ms": 100_000, "retry": slow});
    stage.queue.push(leader.to_string()).await;
    let scheduled = || async {
        let count = stage.redis.cli(&["ZCARD", "redial:{default}:scheduled"]).await;
        (count.trim() == "1").then_some(())
    };
    eventually(SOON, scheduled).await;
    let ids = ids("t", 20);
    stage.push_many(&ids, "/", &json!({"cache_ttl_ms": 60_000})).await;
    wait_following(&stage, 20).await;
    // It becomes due early: a test cannot change the clock, but it can change the task's score.
    let serial = stage.redis.cli(&["ZRANGE", "redial:{default}:scheduled", "0", "0"]).await;
    let serial = serial.trim();
    let entry = stage.redis.cli(&["HGET", "redial:{default}:stored", serial]).await;
    let late = entry.trim_end_matches('\n').replacen(r#""ttl_ms":100000"#, r#""ttl_ms":1     "#, 1);
    assert_ne!(late, entry.trim_end_matches('\n'));
    stage.redis.cli(&["HSET", "redial:{default}:stored", serial, &late]).await;
    stage.redis.cli(&["ZADD", "redial:{default}:scheduled", "0", serial]).await;

    assert_eq!(stage.queue.wait_result("leader", SOON).await["reason"], "expired");
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), 20);
    assert_eq!(stage.upstream.count(), 2);
}

#[tokio::test]
async fn followers_wait_out_their_leaders_retry_after_and_share_its_second_answer() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(429).header("retry-after", "4"),
        _ => Reply::ok(),
    })
    .await;
    let worker = stage.ready_worker().await;
    let ids = ids("t", 100);
    push_identical(&stage, &ids).await;
    wait_following(&stage, 99).await;
    let none = || async { (counter(&worker, "redial_slots_in_use").await == 0).then_some(()) };
    eventually(SOON, none).await;
    assert_eq!(stage.upstream.count(), 1, "no one holds a slot while all wait");
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), 100);
    assert_eq!(stage.upstream.count(), 2);
}

#[tokio::test]
async fn a_follower_whose_deadline_passes_expires_and_the_others_are_answered() {
    let stage = Stage::slow(Duration::from_secs(6)).await;
    let _worker = stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    let task = |id: &str| json!({"id": id, "url": stage.url("/"), "cache_ttl_ms": 60_000});
    stage.queue.push(task("leader").to_string()).await;
    stage.wait_in_flight(1).await;
    let mut hasty = task("hasty");
    hasty["ttl_ms"] = json!(1_000);
    stage.queue.push(hasty.to_string()).await;
    stage.queue.push(task("patient").to_string()).await;
    let result = stage.queue.wait_result("hasty", SOON).await;
    assert_eq!((&result["reason"], stage.upstream.count()), (&json!("expired"), 1));
    assert_eq!(stage.upstream.in_flight(), 1, "it did not wait for its leader");
    assert_eq!(stage.queue.wait_result("patient", SOON).await["source"], "shared");
    // Nothing remains in Redis.
    let gone = || async {
        let keys = stage.redis.cli(&["KEYS", "redial:{default}:[flw]*"]).await;
        (!keys.contains("parked") && !keys.contains(":wait:") && !keys.contains("watch")).then_some(())
    };
    eventually(SOON, gone).await;
}

#[tokio::test]
async fn a_worker_that_drains_during_its_leaders_call_passes_the_lead_on() {
    let stage = Stage::slow(Duration::from_secs(5)).await;
    let first = stage.worker().env("REDIAL_DRAIN_MS", "100").spawn();
    first.wait_ready().await;
    let ids = ids("t", 50);
    push_identical(&stage, &ids).await;
    wait_following(&stage, 49).await;
    let _second = stage.ready_worker().await;
    first.term();
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!((answered(&results), stage.upstream.count()), (50, 2));
}

#[tokio::test]
async fn an_answer_too_large_to_cache_reaches_all_followers_and_nobody_later() {
    let stage = Stage::answering(|_| Reply::ok().body("x".repeat(4_000)).after(Duration::from_secs(1))).await;
    let _worker = stage.worker().env("REDIAL_CACHE_MAX_BYTES", "2000").spawn();
    let ids = ids("t", 30);
    push_identical(&stage, &ids).await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!((answered(&results), stage.upstream.count()), (30, 1));
    push_identical(&stage, &["later".into()]).await;
    assert_eq!(stage.queue.wait_result("later", SOON).await["source"], "call");
}

#[tokio::test]
async fn tasks_of_several_queues_share_one_call() {
    let stage = Stage::slow(Duration::from_secs(2)).await;
    let _one = stage.worker().env("REDIAL_QUEUES", "default,mail").spawn();
    let mail = TestQueue::new(&stage.redis, "mail");
    let (ours, theirs) = (ids("a", 20), ids("b", 20));
    let body = json!({"body": {"prompt": "hi"}, "cache_ttl_ms": 60_000});
    stage.push_many(&ours, "/", &body).await;
    mail.push_all(theirs.iter().map(|id| {
        json!({"id": id, "url": stage.url("/"), "body": {"prompt": "hi"}, "cache_ttl_ms": 60_000}).to_string()
    }))
    .await;
    let (ours, theirs) = (stage.queue.wait_results(&ours, SOON).await, mail.wait_results(&theirs, SOON).await);
    assert_eq!((answered(&ours), answered(&theirs), stage.upstream.count()), (20, 20, 1));
}
