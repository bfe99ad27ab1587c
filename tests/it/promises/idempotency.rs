//! One idempotency key has one effect, whatever is pushed twice, killed or restarted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redial_tests::{Reply, Request, TestQueue, Worker, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, attempts, ids};

fn order(id: &str, url: &str, amount: u32) -> Value {
    json!({"id": id, "url": url, "body": {"amount": amount}, "idempotency_key": "order-17"})
}

/// An upstream that honours the header: it acts once per key and repeats its response.
#[derive(Debug, Default)]
struct IdempotentUpstream(Mutex<HashMap<String, u64>>);

impl IdempotentUpstream {
    fn act(&self, request: &Request) -> Reply {
        let key = request.headers.get("idempotency-key").unwrap_or_default().to_owned();
        let mut acts = self.0.lock().unwrap();
        let next = acts.len() as u64;
        let receipt = *acts.entry(key).or_insert(next);
        Reply::ok().json(&json!({"receipt": receipt})).after(Duration::from_millis(400))
    }

    fn acts(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[tokio::test]
async fn two_hundred_tasks_with_one_key_act_once_while_workers_and_redis_are_killed() {
    let upstream_state = Arc::new(IdempotentUpstream::default());
    let shared = upstream_state.clone();
    let stage = Stage::answering(move |request| shared.act(request)).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    let mut workers: Vec<Worker> = (0..4).map(|_| start()).collect();
    let ids = ids("t", 200);
    let (early, late) = ids.split_at(100);
    let more = json!({"body": {"amount": 5}, "idempotency_key": "order-17", "retry": {"base_ms": 50}});
    stage.push_many(early, "/", &more).await;
    stage.wait_in_flight(1).await;
    for worker in &mut workers[..2] {
        worker.kill9();
        *worker = start();
    }
    stage.redis.kill9();
    stage.redis.restart().await;
    // A new connection, because the other one broke with Redis.
    let queue = TestQueue::new(&stage.redis, "default");
    let again = |id: &String| {
        let mut task = more.clone();
        (task["id"], task["url"]) = (json!(id), json!(stage.url("/")));
        task.to_string()
    };
    queue.push_all(late.iter().map(again)).await;
    sleep(Duration::from_millis(500)).await;
    for worker in &mut workers[2..] {
        worker.kill9();
        *worker = start();
    }
    let results = queue.wait_results(&ids, Duration::from_secs(60)).await;
    assert_eq!(answered(&results), 200);
    assert!(results.iter().all(|result| result["body"] == json!({"receipt": 0})), "all agree");
    assert_eq!(upstream_state.acts(), 1);
    assert!(stage.upstream.calls().iter().all(|call| call.headers.get("idempotency-key") == Some("order-17")));
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(200);
}

#[tokio::test]
async fn once_only_tasks_with_one_key_never_make_two_calls() {
    // The upstream does not deduplicate.
    for victims in [4, 0] {
        let stage = Stage::slow(Duration::from_millis(1_500)).await;
        let start = || stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
        let mut workers: Vec<Worker> = (0..4).map(|_| start()).collect();
        let ids = ids("t", 200);
        let more = json!({"body": {"amount": 5}, "idempotency_key": "k", "effect": "once"});
        stage.push_many(&ids, "/", &more).await;
        stage.wait_in_flight(1).await;
        for worker in &mut workers[..victims] {
            worker.kill9();
            *worker = start();
        }
        let results = stage.queue.wait_results(&ids, Duration::from_secs(60)).await;
        assert_eq!(stage.upstream.count(), 1, "never two calls");
        let expected = if victims > 0 { json!("outcome_unknown") } else { Value::Null };
        assert!(results.iter().all(|result| result["reason"] == expected), "all agree: {:?}", results[0]);
    }
}

#[tokio::test]
async fn a_key_reused_for_a_different_call_is_refused_and_the_first_answer_stands() {
    let stage = Stage::slow(Duration::from_millis(800)).await;
    let _worker = stage.ready_worker().await;
    let (pay, other) = (stage.url("/pay"), stage.url("/refund"));
    stage.queue.push(order("first", &pay, 5).to_string()).await;
    stage.wait_in_flight(1).await;
    // While the first task is in flight, and after it was answered.
    for round in ["early", "late"] {
        for (name, task) in [("amount", order("", &pay, 6)), ("path", order("", &other, 5))] {
            let mut task = task;
            task["id"] = json!(format!("{round}-{name}"));
            let result = stage.answer(task).await;
            assert_eq!(result["reason"], "idempotency_mismatch", "{round} {name}");
            assert!(result["error"].as_str().unwrap().contains("order-17"), "{result}");
        }
        assert_eq!(stage.queue.wait_result("first", SOON).await["status"], "ok");
    }
    let again = stage.answer(order("again", &pay, 5)).await;
    assert_eq!((&again["status"], &again["source"]), (&json!("ok"), &json!("idempotency")));
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn a_final_failure_is_shared_with_followers_and_later_duplicates() {
    let stage = Stage::answering(|_| Reply::status(422).after(Duration::from_millis(700))).await;
    let _worker = stage.ready_worker().await;
    let ids = ids("t", 20);
    stage.push_many(&ids, "/", &json!({"body": {"amount": 5}, "idempotency_key": "order-17"})).await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert!(results.iter().all(|result| result["reason"] == "rejected" && result["http_status"] == 422));
    let later = stage.answer(order("later", &stage.url("/"), 5)).await;
    assert_eq!((&later["reason"], &later["source"]), (&json!("rejected"), &json!("idempotency")));
    assert_eq!((attempts(&later), stage.upstream.count()), (0, 1));
    let dead = || async { (stage.queue.dead().await.len() == 21).then_some(()) };
    eventually(SOON, dead).await;
}

#[tokio::test]
async fn an_idempotency_key_is_held_for_its_configured_time() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_IDEMPOTENCY_HOLD_MS", "1000").spawn();
    let url = stage.url("/ok");
    assert_eq!(stage.answer(order("a", &url, 5)).await["source"], "call");
    assert_eq!(stage.answer(order("b", &url, 5)).await["source"], "idempotency");
    sleep(Duration::from_millis(1_100)).await;
    // The key is free again, even for a different call.
    assert_eq!(stage.answer(order("c", &url, 6)).await["source"], "call");
}

#[tokio::test]
async fn a_key_that_made_no_call_can_be_used_again() {
    let stage = Stage::unruly().await;
    let url = stage.url("/ok");
    let mut late = order("late", &url, 5);
    late["expires_at_ms"] = json!(1);
    let _worker = stage.ready_worker().await;
    assert_eq!(stage.answer(late).await["reason"], "expired");
    assert_eq!(stage.answer(order("next", &url, 5)).await["status"], "ok");
}

#[tokio::test]
async fn a_key_still_in_use_at_the_upstream_is_retried() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(409),
        _ => Reply::ok(),
    })
    .await;
    let _worker = stage.ready_worker().await;
    let mut task = order("a", &stage.url("/"), 5);
    task["retry"] = json!({"base_ms": 10});
    let result = stage.answer(task).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 2));
}

#[tokio::test]
async fn a_task_with_an_idempotency_key_and_a_cache_uses_both() {
    let stage = Stage::slow(Duration::from_secs(1)).await;
    let _worker = stage.ready_worker().await;
    let ids = ids("t", 30);
    let tasks = ids.iter().enumerate().map(|(n, id)| {
        json!({"id": id, "url": stage.url("/"), "cache_ttl_ms": 60_000, "idempotency_key": format!("k{}", n % 10)})
            .to_string()
    });
    stage.queue.push_all(tasks).await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!((answered(&results), stage.upstream.count()), (30, 1), "ten keys, one call");
    let other = json!({"id": "x", "url": stage.url("/other"), "idempotency_key": "k3"});
    assert_eq!(stage.answer(other).await["reason"], "idempotency_mismatch");
}
