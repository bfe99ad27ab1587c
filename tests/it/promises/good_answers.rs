//! What a good answer is: by `ok_when` and `retry_when` of a task or an upstream, and by the errors that a stream of events contains.

use redial_tests::{Reply, Request};
use serde_json::{Value, json};

use super::{CalledPaths, Stage, attempts};

const FAILED_STREAM: &str =
    "event: message_start\ndata: {\"id\":1}\n\nevent: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n";

/// The first answer on each path, with status 200: an error in the body, a page of a proxy, a stream with an error.
fn bad_answer(request: &Request) -> Reply {
    match request.route() {
        "/error" => Reply::ok().json(&json!({"error": {"code": 502, "message": "provider is down"}})),
        "/page" => Reply::ok().header("content-type", "text/html").body("<html>Back soon</html>"),
        "/stream" => Reply::ok().header("content-type", "text/event-stream").body(FAILED_STREAM),
        _ => Reply::ok().json(&json!({"data": [], "error": null})),
    }
}

async fn stage() -> Stage {
    let seen = CalledPaths::default();
    Stage::answering(move |request| {
        if seen.is_first_call(request) { bad_answer(request) } else { Reply::ok().json(&json!({"data": [1]})) }
    })
    .await
}

fn task(stage: &Stage, id: &str, path: &str, more: &Value) -> Value {
    let mut task = json!({"id": id, "url": stage.url(path), "retry": {"base_ms": 10}});
    for (name, value) in more.as_object().into_iter().flatten() {
        task[name] = value.clone();
    }
    task
}

#[tokio::test]
async fn a_bad_answer_with_a_good_status_is_neither_ok_nor_cached() {
    let stage = stage().await;
    let worker = stage.ready_worker().await;
    let conditions =
        json!({"ok_when": {"path": "$.data[0]"}, "retry_when": {"path": "$.error"}, "cache_ttl_ms": 60_000});
    for (id, path, says) in [
        ("error", "/error", "retry_when holds: $.error"),
        ("page", "/page", "the body is not JSON"),
        ("stream", "/stream", "retry_when holds: $.error"),
    ] {
        let result = stage.answer(task(&stage, id, path, &conditions)).await;
        assert_eq!((&result["status"], &result["body"]), (&json!("ok"), &json!({"data": [1]})), "{id}: {result}");
        assert_eq!((attempts(&result), &result["attempts"][0]["http_status"]), (2, &json!(200)), "{id}: {result}");
        let error = result["attempts"][0]["error"].as_str().unwrap();
        assert!(error.starts_with("status 200; ") && error.contains(says), "{id}: {error}");
        let cached = stage.answer(task(&stage, &format!("{id} again"), path, &conditions)).await;
        assert_eq!((&cached["source"], &cached["body"]), (&json!("cache"), &json!({"data": [1]})), "{id}");
    }
    assert_eq!(super::counter(&worker, "redial_retries_total").await, 3);
    let labelled = worker.metrics().await;
    assert!(labelled.contains("reason=\"not_ok\""), "{labelled}");
}

#[tokio::test]
async fn a_good_status_without_what_ok_when_asks_for_is_rejected_and_an_answer_of_another_status_can_be_good() {
    let stage = Stage::answering(|request| match request.route() {
        "/empty" => Reply::ok().json(&json!({"data": []})),
        _ => Reply::status(404).json(&json!({"code": "no_such_user"})),
    })
    .await;
    let _worker = stage.worker().spawn();
    let conditions = json!({"ok_when": {"path": "$.data[0]"}, "cache_ttl_ms": 60_000});
    for id in ["empty", "empty again"] {
        let result = stage.answer(task(&stage, id, "/empty", &conditions)).await;
        assert_eq!(
            (&result["reason"], &result["http_status"], attempts(&result)),
            (&json!("rejected"), &json!(200), 1)
        );
        assert_eq!(result["body"], json!({"data": []}), "the answer is shown all the same");
        assert!(result["error"].as_str().unwrap().contains("ok_when finds nothing at $.data[0]"), "{result}");
    }
    let gone = json!({"method": "DELETE", "ok_when": {"status": [200, 204, 404]}, "cache_ttl_ms": 60_000});
    let result = stage.answer(task(&stage, "gone", "/users/7", &gone)).await;
    assert_eq!((&result["status"], &result["http_status"]), (&json!("ok"), &json!(404)), "{result}");
    assert_eq!(stage.answer(task(&stage, "gone again", "/users/7", &gone)).await["source"], "cache");
    // A task that does not say so takes the same answer for a failure.
    let result =
        stage.answer(task(&stage, "strict", "/users/7", &json!({"method": "DELETE", "cache_ttl_ms": 60_000}))).await;
    assert_eq!((&result["reason"], &result["source"]), (&json!("rejected"), &json!("call")), "{result}");
}

#[tokio::test]
async fn an_upstream_says_for_all_of_its_tasks_what_a_good_answer_is() {
    let stage = stage().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("redial.toml");
    let text = format!(
        "[[upstream]]\nurl = \"{}\"\nok_when = {{ path = \"$.data\" }}\nretry_when = {{ status = [200], path = \"$.error\" }}\n",
        stage.url("/")
    );
    std::fs::write(&settings, text).unwrap();
    let _worker = stage.worker().arg("--config").arg(settings.to_str().unwrap()).spawn();
    let result = stage.answer(task(&stage, "error", "/error", &json!({}))).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 2), "{result}");
    let result = stage.answer(task(&stage, "empty", "/empty", &json!({}))).await;
    assert_eq!((&result["reason"], attempts(&result)), (&json!("rejected"), 1), "{result}");
    // A task may say otherwise.
    let own = json!({"ok_when": {"status": [200]}, "retry_when": {"status": []}});
    let result = stage.answer(task(&stage, "own", "/page", &own)).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 1), "{result}");
}

#[tokio::test]
async fn a_once_only_call_is_not_repeated_because_of_its_answer() {
    let stage = stage().await;
    let _worker = stage.worker().spawn();
    let once = json!({"effect": "once", "method": "POST", "retry_when": {"path": "$.error"}});
    let result = stage.answer(task(&stage, "once", "/error", &once)).await;
    assert_eq!((&result["reason"], attempts(&result)), (&json!("outcome_unknown"), 1), "{result}");
}

#[tokio::test]
async fn a_condition_on_a_large_answer_costs_bounded_time() {
    let large: Vec<Value> = (0..100_000).map(|n| json!({"n": n, "tags": ["a", "b"]})).collect();
    let large = json!({"items": large, "done": true});
    let stage = Stage::answering(move |_| Reply::ok().json(&large)).await;
    let _worker = stage.worker().spawn();
    for (id, path, reason) in [
        ("singular", "$.done", Value::Null),
        ("scan", "$.items[*].n", Value::Null),
        ("product", "$..[?count($..n) == @.n]", json!("rejected")),
    ] {
        let result = stage.answer(task(&stage, id, "/large", &json!({"ok_when": {"path": path}}))).await;
        assert_eq!(result["reason"], reason, "{id}: {}", result["error"]);
    }
}
