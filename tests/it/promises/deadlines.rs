//! A task expires within two seconds of its deadline, wherever it waits and however many expire at once.

use std::time::Duration;

use redial_tests::stalls::{self, now_ms};
use redial_tests::{Reply, eventually};
use serde_json::{Value, json};

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, attempts, ids, number};

/// How late a task may expire.
const MAX_LATE_MS: u64 = 2_000;

/// Panics unless each of these results says that its task expired, and on time.
fn assert_expired(results: &[Value], deadline_ms: u64) {
    for result in results {
        assert_eq!(result["reason"], json!("expired"), "{result}");
        let ended = number(&result["finished_at_ms"]);
        assert!(ended >= deadline_ms, "{} ms before its deadline", deadline_ms - ended);
        let late = ended - deadline_ms;
        let most = MAX_LATE_MS + stalls::between(deadline_ms, ended);
        assert!(late <= most, "{late} ms late, of which the machine stood still for {}", most - MAX_LATE_MS);
    }
}

async fn wait_stored(stage: &Stage, place: &str, count: usize) {
    eventually(SOON, || async { (QueueSnapshot::take(&stage.redis).await.count(place) >= count).then_some(()) }).await;
}

#[tokio::test]
async fn tasks_behind_a_limit_expire_at_their_deadline_and_not_when_their_turn_comes() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let ids = ids("t", 150);
    let deadline = now_ms() + 4_000;
    let limit = json!({"name": "slow", "rate": 5, "burst": 1});
    stage.push_many(&ids, "/ok", &json!({"limit": limit, "expires_at_ms": deadline})).await;
    let (good, expired): (Vec<Value>, Vec<Value>) =
        stage.queue.wait_results(&ids, SOON).await.into_iter().partition(|result| result["status"] == "ok");
    assert!((10..=30).contains(&good.len()), "{} were called", good.len());
    assert_expired(&expired, deadline);
}

#[tokio::test]
async fn tasks_expire_on_time_while_every_slot_is_in_use_whatever_memo_they_lead() {
    let stage = Stage::slow(Duration::from_secs(20)).await;
    let worker = stage.worker().env("REDIAL_CONCURRENCY", "2").spawn();
    worker.wait_ready().await;
    let deadline = now_ms() + 6_000;
    // Each leads a memo, since nothing but the limit holds it back.
    let limit = json!({"name": "slow", "rate": 1, "per_ms": 600_000, "burst": 1});
    let keyed = ids("keyed", 40);
    let tasks = keyed.iter().enumerate().map(|(n, id)| {
        let url = stage.url(&format!("/{n}"));
        json!({"id": id, "url": url, "cache_ttl_ms": 60_000, "limit": limit, "expires_at_ms": deadline}).to_string()
    });
    stage.queue.push_all(tasks).await;
    let delayed = ids("delayed", 200);
    stage.push_many(&delayed, "/x", &json!({"delay_ms": 3_600_000, "expires_at_ms": deadline})).await;
    wait_stored(&stage, "scheduled", 200).await;
    wait_stored(&stage, "parked", 39).await;
    let busy = ids("busy", 2);
    stage.push_many(&busy, "/busy", &json!({"timeout_ms": 30_000})).await;
    let results = stage.queue.wait_results(&delayed, SOON).await;
    assert_expired(&results, deadline);
    let results = stage.queue.wait_results(&keyed[1..], SOON).await;
    let expired: Vec<Value> = results.into_iter().filter(|result| result["status"] != "ok").collect();
    assert!(expired.len() >= 38, "{}", expired.len());
    assert_expired(&expired, deadline);
    assert!(stage.queue.result("busy0").await.is_none(), "a slot was free: this shows nothing");
}

#[tokio::test]
async fn thousands_of_tasks_that_wait_for_an_upstream_expire_at_once() {
    let stage = Stage::answering(|_| Reply::status(503)).await;
    let worker = stage.worker().env("REDIAL_BREAKER_PROBE_MS", "60000").spawn();
    worker.wait_ready().await;
    let first = ids("first", 60);
    stage.push_many(&first, "/x", &json!({})).await;
    eventually(SOON, || async { worker.log().contains("its breaker is open").then_some(()) }).await;
    let ids = ids("t", 3_000);
    let deadline = now_ms() + 9_000;
    stage.push_many(&ids, "/x", &json!({"expires_at_ms": deadline})).await;
    wait_stored(&stage, "parked", 3_000).await;
    assert!(now_ms() < deadline, "the machine is too slow for this test");
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_expired(&results, deadline);
    // One of them may have been a probe.
    assert!(results.iter().map(attempts).max() <= Some(1));
    let seen = QueueSnapshot::take(&stage.redis).await;
    assert_eq!(seen.count("ended"), 3_000);
}

#[tokio::test]
async fn followers_expire_on_time_and_the_leaders_answer_reaches_the_others() {
    let stage = Stage::slow(Duration::from_secs(6)).await;
    let _worker = stage.ready_worker().await;
    let same = json!({"cache_ttl_ms": 60_000, "timeout_ms": 30_000});
    stage.push_many(&["leader".to_owned()], "/x", &same).await;
    stage.wait_in_flight(1).await;
    let deadline = now_ms() + 2_500;
    let (hasty, patient) = (ids("hasty", 300), ids("patient", 300));
    let mut fields = same.clone();
    stage.push_many(&patient, "/x", &fields).await;
    fields["expires_at_ms"] = json!(deadline);
    stage.push_many(&hasty, "/x", &fields).await;
    assert_expired(&stage.queue.wait_results(&hasty, SOON).await, deadline);
    assert_eq!(answered(&stage.queue.wait_results(&patient, SOON).await), 300);
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn deadlines_are_kept_by_whichever_worker_is_left() {
    let stage = Stage::unruly().await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "4000").spawn();
    let (first, second) = (start(), start());
    first.wait_ready().await;
    let ids = ids("t", 400);
    let deadline = now_ms() + 6_000;
    stage.push_many(&ids, "/ok", &json!({"delay_ms": 3_600_000, "expires_at_ms": deadline})).await;
    wait_stored(&stage, "scheduled", 400).await;
    first.kill9();
    second.wait_ready().await;
    assert_expired(&stage.queue.wait_results(&ids, SOON).await, deadline);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(400);
}
