//! Callbacks: each result is delivered by a call of its own, retried like any call and signed according to Standard Webhooks.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use redial_tests::{Cli, Reply, Request};
use serde_json::json;
use sha2::Sha256;

use super::snapshot::QueueSnapshot;
use super::{CalledPaths, SOON, Stage, answered, ids};

const KEY: &[u8] = b"a secret of thirty-two bytes....";

fn secret() -> String {
    format!("whsec_{}", BASE64.encode(KEY))
}

/// An upstream whose callback receiver fails each delivery once.
async fn receiving() -> Stage {
    let seen = CalledPaths::default();
    Stage::answering(move |request| match request.route() {
        route if route.starts_with("/hook") && seen.is_first_call(request) => Reply::status(503),
        "/bad" => Reply::status(422).json(&json!({"error": "no"})),
        _ => Reply::ok().json(&json!({"n": 1})),
    })
    .await
}

/// Verifies a delivery as any receiver would, following only the specification.
fn verify(delivery: &Request) {
    let header = |name| delivery.headers.get(name).unwrap_or_else(|| panic!("no {name}: {delivery:?}"));
    let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
    let sent = time.parse::<u64>().unwrap();
    assert!(sent.abs_diff(delivery.unix_ms / 1_000) <= 5 * 60, "the timestamp is not current");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(&delivery.body);
    let expected = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
    assert!(header("webhook-signature").split(' ').any(|signature| signature == expected));
}

#[tokio::test]
async fn a_callback_carries_the_full_signed_result_and_is_retried_until_accepted() {
    let stage = receiving().await;
    let _worker = stage.worker().env("REDIAL_WEBHOOK_SECRET", secret()).spawn();
    for (id, path, status) in [("good", "/ok", "ok"), ("bad", "/bad", "dead")] {
        let hook = format!("/hook/{id}");
        stage.push_many(&[id.into()], path, &json!({"callback_url": stage.url(&hook), "meta": {"user": 7}})).await;
        let delivered = stage.queue.wait_result(&format!("{id}.callback"), SOON).await;
        assert_eq!((&delivered["status"], delivered["attempts"].as_array().map(Vec::len)), (&json!("ok"), Some(2)));
        let calls = stage.upstream.calls_to(&hook);
        assert_eq!(calls.len(), 2, "again after the 503");
        let result = stage.queue.result(id).await.unwrap();
        assert_eq!((&result["status"], &result["meta"]["user"]), (&json!(status), &json!(7)));
        for call in &calls {
            assert_eq!((call.method.as_str(), call.json()), ("POST", result.clone()));
            assert_eq!(call.headers.get("content-type"), Some("application/json"));
            verify(call);
        }
        assert_eq!(calls[0].headers.get("webhook-id"), calls[1].headers.get("webhook-id"), "one message");
    }
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(4);
}

#[tokio::test]
async fn results_of_cancelled_and_invalid_tasks_are_delivered_too() {
    let stage = receiving().await;
    let task = json!({"id": "cancelled", "url": stage.url("/ok"), "callback_url": stage.url("/hook/cancelled")});
    stage.queue.push(task.to_string()).await;
    assert_eq!(Cli::new(&stage.redis).run(&["cancel", "cancelled"]).await.status, 0);
    let task = json!({"id": "wrong", "url": 5, "callback_url": stage.url("/hook/wrong")});
    stage.queue.push(task.to_string()).await;
    let _worker = stage.ready_worker().await;
    for (id, reason) in [("cancelled", "cancelled"), ("wrong", "invalid_task")] {
        assert_eq!(stage.queue.wait_result(&format!("{id}.callback"), SOON).await["status"], "ok");
        let delivery = &stage.upstream.calls_to(&format!("/hook/{id}"))[1];
        assert_eq!((&delivery.json()["id"], &delivery.json()["reason"]), (&json!(id), &json!(reason)));
        assert_eq!(delivery.headers.get("webhook-signature"), None, "this worker has no secret");
    }
}

#[tokio::test]
async fn every_callback_is_delivered_despite_worker_kills() {
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let ids = ids("t", 300);
    stage.push_many(&ids, "/", &json!({"callback_url": stage.url("/hook")})).await;
    let _workers = stage.workers_under_kills().await;
    let results = stage.queue.wait_results(&ids, 2 * SOON).await;
    assert_eq!(answered(&results), ids.len());
    let deliveries: Vec<String> = ids.iter().map(|id| format!("{id}.callback")).collect();
    assert_eq!(answered(&stage.queue.wait_results(&deliveries, 2 * SOON).await), ids.len());
    let delivered: HashSet<String> =
        stage.upstream.calls_to("/hook").iter().map(|call| call.json()["id"].to_string()).collect();
    assert_eq!(delivered.len(), ids.len());
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(2 * ids.len());
}

#[tokio::test]
async fn a_callback_whose_result_is_gone_or_whose_receiver_is_forbidden_is_dead_lettered_and_replayed() {
    let stage = Stage::answering(|request| match request.route() {
        "/hook" if request.nth < 2 => Reply::status(404),
        _ => Reply::ok().json(&json!({"n": 1})),
    })
    .await;
    let worker = stage.worker().env("REDIAL_ALLOW_PRIVATE", "127.0.0.1/32").spawn();
    worker.wait_ready().await;
    stage.answer(json!({"id": "a", "url": stage.url("/ok"), "callback_url": stage.url("/hook")})).await;
    assert_eq!(stage.queue.wait_result("a.callback", SOON).await["reason"], "rejected");
    let cli = Cli::new(&stage.redis);
    // It is a delivery again, also where its result has gone.
    assert_eq!(cli.run(&["dead", "replay", "a.callback"]).await.status, 0);
    assert_eq!(stage.queue.wait_result("a.callback", SOON).await["status"], "ok");
    assert_eq!(stage.upstream.calls_to("/hook")[1].json()["id"], "a");
    stage.answer(json!({"id": "b", "url": stage.url("/ok"), "callback_url": "http://169.254.169.254/latest"})).await;
    assert_eq!(stage.queue.wait_result("b.callback", SOON).await["reason"], "forbidden_target");
    stage.redis.cli(&["DEL", &stage.queue.result_key("b")]).await;
    assert_eq!(cli.run(&["dead", "replay", "b.callback"]).await.status, 0);
    let gone = stage.queue.wait_result("b.callback", SOON).await;
    assert_eq!(gone["reason"], "expired", "{gone}");
    assert!(gone["error"].as_str().unwrap().contains("no result of b"));
}

#[tokio::test]
async fn a_producer_cannot_have_a_result_delivered_or_made_up() {
    let stage = receiving().await;
    let _worker = stage.worker().env("REDIAL_WEBHOOK_SECRET", secret()).spawn();
    stage.answer(json!({"id": "theirs", "url": stage.url("/ok")})).await;
    let mine = stage.url("/mine");
    for (id, forged) in [
        ("a", json!({"url": mine, "callback_of": "theirs"})),
        ("theirs.callback", json!({"url": mine, "callback_of": "theirs"})),
        ("c", json!({"url": mine, "callback_of": "theirs", "delay_ms": 10})),
        ("d", json!({"url": stage.url("/ok"), "then": {"url": mine, "callback_of": "theirs"}})),
    ] {
        let mut task = forged;
        task["id"] = json!(id);
        let result = stage.answer(task).await;
        let error = result["error"].as_str().unwrap_or_default();
        assert!(result["reason"] == "invalid_task" && error.contains("only Redial makes"), "{id}: {result}");
    }
    // Neither one that has the form in which Redial stores and passes on its own.
    for raw in [
        format!("delivery {{\"id\":\"e\",\"url\":\"{mine}\",\"callback_of\":\"theirs\"}}"),
        format!("w:1:1:callback 1 0 0 -\n{{\"id\":\"e\",\"url\":\"{mine}\",\"callback_of\":\"theirs\"}}"),
    ] {
        stage.queue.push(raw).await;
    }
    let dead = redial_tests::eventually(SOON, async || {
        let dead = stage.queue.dead().await;
        (dead.len() == 6).then_some(dead)
    })
    .await;
    // Not even a replay makes a delivery of it.
    let replayed = Cli::new(&stage.redis).run(&["dead", "replay", "a"]).await;
    assert_eq!(replayed.status, 0, "{replayed:?}");
    assert_eq!(stage.queue.wait_result("a", SOON).await["reason"], "invalid_task");
    assert_eq!((stage.upstream.calls_to("/mine").len(), dead.len()), (0, 6));
    for client in [vec!["enqueue", r#"{"url":"http://h/","callback_of":"theirs"}"#]] {
        let refused = Cli::new(&stage.redis).run(&client).await;
        assert!(refused.status == 1 && refused.stderr.contains("callback_url"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_delivery_does_not_take_along_the_result_of_a_later_task_with_the_same_id() {
    let stage = Stage::answering(|request| match request.route() {
        "/mine" if request.nth < 3 => Reply::status(503),
        _ => Reply::ok().json(&json!({"secret": 1})),
    })
    .await;
    let _worker = stage.ready_worker().await;
    // A task that ends at once, with the id of another's task that is about to end.
    let mine = json!({"id": "theirs", "url": "nowhere", "callback_url": stage.url("/mine")});
    stage.queue.push(mine.to_string()).await;
    stage.queue.wait_result("theirs", SOON).await;
    redial_tests::eventually(SOON, async || (!stage.upstream.calls_to("/mine").is_empty()).then_some(())).await;
    stage.redis.cli(&["DEL", &stage.queue.result_key("theirs")]).await;
    stage.answer(json!({"id": "theirs", "url": stage.url("/ok")})).await;
    let delivery = stage.queue.wait_result("theirs.callback", SOON).await;
    assert!(delivery["error"].as_str().unwrap_or_default().contains("a later task with the same id"), "{delivery}");
    for call in stage.upstream.calls_to("/mine") {
        assert!(!String::from_utf8_lossy(&call.body).contains("secret"), "{call:?}");
    }
}
