//! Chains: a task defines the next one, with values from its own response.

use std::time::Duration;

use redial_tests::Reply;
use serde_json::json;

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, ids};

#[tokio::test]
async fn each_answer_feeds_the_next_call() {
    let stage = Stage::answering(|request| match request.route() {
        "/upload" => Reply::ok().json(&json!({"file": {"id": "f/1", "size": 12}})),
        "/extract" => Reply::ok().json(&json!({"items": [{"name": "a"}, {"name": "b"}]})),
        _ => Reply::ok().json(&json!({"saved": true})),
    })
    .await;
    let worker = stage.ready_worker().await;
    let last = json!({"id": "last", "url": stage.url("/save"), "body": {"names": "{{$.body.items[*].name}}"}});
    let then = json!({
        "url": stage.url("/extract?file={{$.body.file.id}}"), "headers": {"X-Size": "{{$.body.file.size}} bytes"},
        "body": {"size": "{{$.body.file.size}}", "prompt": "{{untouched}}"}, "then": last,
    });
    let first = stage.answer(json!({"id": "a", "url": stage.url("/upload"), "then": then})).await;
    assert_eq!(first["status"], "ok");
    assert_eq!(stage.queue.wait_result("a.then", SOON).await["status"], "ok");
    assert_eq!(stage.queue.wait_result("last", SOON).await["body"], json!({"saved": true}));
    let calls = stage.upstream.calls();
    assert_eq!((calls.len(), calls[1].path.as_str()), (3, "/extract?file=f%2F1"));
    assert_eq!(calls[1].headers.get("x-size"), Some("12 bytes"));
    assert_eq!(calls[1].json(), json!({"size": 12, "prompt": "{{untouched}}"}));
    assert_eq!(calls[2].json(), json!({"names": ["a", "b"]}));
    drop(worker);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(3);
}

#[tokio::test]
async fn a_chain_stops_at_its_first_dead_task_and_reports_it() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let then = json!({"id": "second", "url": stage.url("/ok"), "body": "{{$.body.no.such}}"});
    let dead = stage.answer(json!({"id": "a", "url": stage.url("/status/400"), "then": then})).await;
    assert_eq!(dead["status"], "dead");
    assert!(stage.queue.result("second").await.is_none(), "no task follows a failure");
    assert_eq!(stage.answer(json!({"id": "b", "url": stage.url("/ok"), "then": then})).await["status"], "ok");
    let second = stage.queue.wait_result("second", SOON).await;
    assert_eq!(second["reason"], "invalid_task");
    assert!(second["error"].as_str().unwrap().contains("{{$.body.no.such}} finds nothing"), "{second}");
    let wrong = stage.answer(json!({"id": "c", "url": stage.url("/ok"), "then": {"url": "nowhere"}})).await;
    assert!(wrong["error"].as_str().unwrap().contains("`then`: `url`"), "{wrong}");
}

#[tokio::test]
async fn every_chain_completes_despite_worker_kills() {
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let ids = ids("t", 200);
    let then = json!({"url": stage.url("/two/{{$.id}}"), "then": {"url": stage.url("/three")}});
    stage.push_many(&ids, "/one", &json!({"then": then})).await;
    let _workers = stage.workers_under_kills().await;
    let ends: Vec<String> = ids.iter().map(|id| format!("{id}.then.then")).collect();
    assert_eq!(answered(&stage.queue.wait_results(&ends, 2 * SOON).await), ids.len());
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(3 * ids.len());
}

#[tokio::test]
async fn a_task_of_a_chain_is_no_larger_than_any_task_may_be() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_MAX_TASK_BYTES", "100000").spawn();
    let then = json!({"id": "next", "url": stage.url("/echo"), "body": {"copy": "{{$.body_text}}"}});
    stage.answer(json!({"id": "first", "url": stage.url("/big/200000"), "then": then})).await;
    let result = stage.queue.wait_result("next", SOON).await;
    let error = result["error"].as_str().unwrap_or_default();
    assert_eq!(result["reason"], "invalid_task", "{result}");
    assert!(error.contains("with `body` filled in, the task has more than 100000 bytes"), "{error}");
}
