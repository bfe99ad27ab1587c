//! Cancellation at every stage: one state, one result and correct counters, which no later response changes.

use std::time::Duration;

use redial_tests::{Cli, Reply, Worker, eventually};
use serde_json::{Value, json};

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, assert_counted, ids};

/// Cancels with the command line. Returns whether it succeeded, and its output.
async fn cancel(stage: &Stage, id: &str) -> (bool, String) {
    let result = Cli::new(&stage.redis).run(&["cancel", id]).await;
    assert!(matches!(result.status, 0 | 3), "{result:?}");
    (result.status == 0, result.stdout)
}

/// Cancels a task, and checks that exactly one result and one dead letter record it.
async fn assert_cancelled(stage: &Stage, id: &str, was: &str) -> Value {
    let (done, output) = cancel(stage, id).await;
    assert!(done && output.contains(&format!("was {was}")), "{output}");
    let result = stage.queue.result(id).await.expect("the result exists at once");
    assert_eq!((&result["status"], &result["reason"]), (&json!("dead"), &json!("cancelled")), "{result}");
    let letters = stage.queue.dead().await;
    let of_it: Vec<_> = letters.iter().filter(|letter| letter.header["id"] == id).collect();
    assert_eq!(of_it.len(), 1);
    assert_eq!(of_it[0].header["reason"], "cancelled");
    let (again, output) = cancel(stage, id).await;
    assert!(!again && output.contains("too late"), "{output}");
    result
}

async fn assert_in(stage: &Stage, task_state: &str, tasks: usize) {
    eventually(SOON, || async { (QueueSnapshot::take(&stage.redis).await.count(task_state) == tasks).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_at_once_even_without_workers() {
    let stage = Stage::unruly().await;
    let ids = ids("t", 3);
    let more = json!({"meta": {"user": 7}, "reply_to": "answers:{default}"});
    stage.push_many(&ids, "/ok", &more).await;
    let result = assert_cancelled(&stage, "t1", "waiting").await;
    assert_eq!((&result["meta"], &result["attempts"]), (&json!({"user": 7}), &json!([])));
    let reply = stage.redis.cli(&["LPOP", "answers:{default}"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&reply).unwrap(),
        result,
        "a caller that waits on the reply list gets the result"
    );

    let _worker = stage.ready_worker().await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), 2);
    assert_eq!(stage.upstream.count(), 2, "the cancelled call is never made");
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(3);
    let (done, output) = cancel(&stage, "t0").await;
    assert!(!done && output.contains("complete"), "{output}");
    let (done, output) = cancel(&stage, "no-such").await;
    assert!(!done && output.contains("not found"), "{output}");
}

#[tokio::test]
async fn a_scheduled_or_parked_task_is_cancelled_and_keeps_its_history() {
    let stage = Stage::unruly().await;
    let worker = stage.ready_worker().await;
    let retry = json!({"base_ms": 600_000, "jitter": "none"});
    stage.push_many(&["retried".into()], "/status/503", &json!({"retry": retry})).await;
    stage.push_many(&["delayed".into()], "/ok", &json!({"delay_ms": 600_000})).await;
    let limit = json!({"name": "slow", "rate": 1, "per_ms": 600_000, "burst": 1});
    stage.push_many(&ids("limited", 2), "/ok", &json!({"limit": limit})).await;
    assert_in(&stage, "scheduled", 2).await;
    assert_in(&stage, "parked", 1).await;
    // One of the two tasks starts at once, and the other one waits.
    assert_in(&stage, "ended", 1).await;
    let parked = if stage.queue.result("limited0").await.is_some() { "limited1" } else { "limited0" };
    let retried = assert_cancelled(&stage, "retried", "scheduled").await;
    assert_eq!(retried["attempts"][0]["http_status"], 503);
    assert_cancelled(&stage, "delayed", "scheduled").await;
    assert_cancelled(&stage, parked, "parked").await;
    drop(worker);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(4);
}

/// Cancels task `a` while a worker with this lease makes its call. Returns the worker and the result.
async fn cancelled_in_flight(stage: &Stage, lease_ms: &str) -> (Worker, Value) {
    let worker = stage.worker().env("REDIAL_LEASE_MS", lease_ms).spawn();
    worker.wait_ready().await;
    stage.push_many(&["a".into()], "/", &json!({})).await;
    stage.wait_in_flight(1).await;
    (worker, assert_cancelled(stage, "a", "active").await)
}

#[tokio::test]
async fn a_call_in_flight_is_aborted_and_its_response_never_overwrites_the_cancellation() {
    let stage = Stage::slow(Duration::from_secs(20)).await;
    let (worker, before) = cancelled_in_flight(&stage, "2000").await;
    // The connection is closed long before the response would arrive.
    eventually(Duration::from_secs(10), || async { (stage.upstream.in_flight() == 0).then_some(()) }).await;
    assert_counted(&worker, "redial_slots_in_use", 0).await;
    assert_eq!(stage.queue.result("a").await, Some(before));
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(1);
}

#[tokio::test]
async fn a_response_that_arrives_just_after_the_cancellation_is_dropped() {
    let stage = Stage::slow(Duration::from_millis(700)).await;
    // Heartbeats are so rare that the call ends before the worker notices.
    let (worker, before) = cancelled_in_flight(&stage, "60000").await;
    eventually(SOON, || async { worker.log().contains("lease lost").then_some(()) }).await;
    assert_eq!(stage.queue.result("a").await, Some(before));
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(1);
}

#[tokio::test]
async fn cancelling_a_follower_affects_no_other_and_cancelling_a_leader_promotes_the_next() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(503),
        _ => Reply::ok().json(&json!({"nth": request.nth})),
    })
    .await;
    let worker = stage.ready_worker().await;
    let retry = json!({"base_ms": 600_000, "jitter": "none"});
    let more = json!({"body": {"q": 1}, "cache_ttl_ms": 60_000, "retry": retry});
    stage.push_many(&["leader".into()], "/", &more).await;
    assert_in(&stage, "scheduled", 1).await;
    let followers = ids("follower", 5);
    stage.push_many(&followers, "/", &more).await;
    assert_in(&stage, "parked", 5).await;
    assert_cancelled(&stage, "follower2", "parked").await;
    assert_eq!(stage.upstream.count(), 1);
    assert_cancelled(&stage, "leader", "scheduled").await;
    // The leader would have waited ten minutes; the next follower does not have to.
    let results = stage.queue.wait_results(&followers, SOON).await;
    assert_eq!(answered(&results), 4, "all but the cancelled one: {results:?}");
    assert_eq!(stage.upstream.count(), 2, "one call for all of them");
    drop(worker);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(6);
}

#[tokio::test]
async fn cancelling_a_leader_in_flight_promotes_the_next() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::ok().after(Duration::from_secs(60)),
        _ => Reply::ok(),
    })
    .await;
    let worker = stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    worker.wait_ready().await;
    let more = json!({"body": {"q": 1}, "cache_ttl_ms": 60_000, "timeout_ms": 120_000});
    stage.push_many(&["leader".into()], "/", &more).await;
    stage.wait_in_flight(1).await;
    stage.push_many(&["follower".into()], "/", &more).await;
    assert_in(&stage, "parked", 1).await;
    assert_cancelled(&stage, "leader", "active").await;
    let result = stage.queue.wait_result("follower", SOON).await;
    assert_eq!(result["status"], "ok", "{result}");
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(2);
}

#[tokio::test]
async fn a_key_whose_only_task_was_cancelled_can_be_used_again() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(503),
        1 => Reply::ok().after(Duration::from_secs(60)),
        _ => Reply::ok(),
    })
    .await;
    let worker = stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    worker.wait_ready().await;
    let more = json!({"idempotency_key": "k", "timeout_ms": 120_000, "retry": {"base_ms": 0}});
    stage.push_many(&["leader".into()], "/", &more).await;
    eventually(SOON, || async { (stage.upstream.count() == 2).then_some(()) }).await;
    stage.push_many(&["follower".into()], "/", &more).await;
    assert_in(&stage, "parked", 1).await;
    let cancelled = assert_cancelled(&stage, "leader", "active").await;
    assert_eq!(cancelled["attempts"][0]["http_status"], 503);
    let result = stage.queue.wait_result("follower", SOON).await;
    assert_eq!((&result["status"], stage.upstream.count()), (&json!("ok"), 3), "{result}");
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(2);
}

#[tokio::test]
async fn a_task_waiting_for_a_breaker_can_be_cancelled() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_BREAKER_PROBE_MS", "600000").spawn();
    let ids = ids("t", 40);
    let retry = json!({"max_attempts": 2, "base_ms": 0});
    stage.push_many(&ids, "/status/503", &json!({"retry": retry})).await;
    eventually(SOON, || async { (QueueSnapshot::take(&stage.redis).await.count("parked") > 5).then_some(()) }).await;
    let parked_tasks = QueueSnapshot::take(&stage.redis).await;
    let id = parked_tasks.first("parked").expect("some tasks are parked");
    let cancelled = assert_cancelled(&stage, id, "parked").await;
    assert!(cancelled["attempts"].as_array().unwrap().len() <= 1);
}

#[tokio::test]
async fn a_cancelled_task_can_be_replayed() {
    let stage = Stage::unruly().await;
    stage.push_many(&["a".into()], "/ok", &json!({})).await;
    assert_cancelled(&stage, "a", "waiting").await;
    assert_eq!(Cli::new(&stage.redis).run(&["dead", "replay", "a"]).await.status, 0);
    let _worker = stage.ready_worker().await;
    assert_eq!(stage.queue.wait_result("a", SOON).await["status"], "ok");
}

#[tokio::test]
async fn a_task_whose_id_was_used_before_is_cancelled_and_its_old_result_is_not_mistaken_for_its_own() {
    let stage = Stage::unruly().await;
    let worker = stage.ready_worker().await;
    let first = stage.answer(json!({"id": "a", "url": stage.url("/ok")})).await;
    assert_eq!(first["status"], json!("ok"));
    // Waiting, with no worker to claim it.
    worker.kill9();
    stage.queue.push(json!({"id": "a", "url": stage.url("/ok"), "meta": "again"}).to_string()).await;
    let cli = Cli::new(&stage.redis);
    let output = cli.run(&["cancel", "a"]).await;
    assert!(output.status == 0 && output.stdout.contains("was waiting"), "{}", output.stdout);
    let result = stage.queue.result("a").await.expect("it was cancelled");
    assert_eq!((&result["reason"], &result["meta"]), (&json!("cancelled"), &json!("again")));
    let again = cli.run(&["cancel", "a"]).await;
    assert!(again.status == 3 && again.stdout.contains("too late"), "{}", again.stdout);
}

#[tokio::test]
async fn a_task_pushed_under_a_used_id_has_no_result_until_its_own() {
    let stage = Stage::slow(Duration::from_millis(300)).await;
    let _worker = stage.ready_worker().await;
    let client = redial::Client::open(stage.redis.url(), "default").unwrap();
    for round in ["first", "second"] {
        let task = json!({"id": "a", "url": stage.url("/x"), "meta": round}).to_string();
        let result = client.enqueue_and_wait(task.as_str(), SOON).await.unwrap().expect("it is answered");
        assert!(result.json.contains(&format!("\"meta\":\"{round}\"")), "{}", result.json);
    }
    client.enqueue(json!({"id": "a", "url": stage.url("/x"), "delay_ms": 60_000}).to_string().as_str()).await.unwrap();
    let cli = Cli::new(&stage.redis);
    let scheduled = || async { cli.run(&["status", "a"]).await.stdout.contains("scheduled").then_some(()) };
    eventually(SOON, scheduled).await;
}
