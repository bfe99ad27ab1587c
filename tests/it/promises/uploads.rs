//! Forms and multipart uploads, made of the fields of a task.

use redial_tests::{Reply, Request};
use serde_json::{Value, json};

use super::{SOON, Stage, attempts};

fn parts() -> Value {
    json!([
        {"name": "purpose", "text": "batch"},
        {"name": "file", "filename": "requests.jsonl", "type": "application/jsonl", "base64": "e30K"},
    ])
}

fn content_type(call: &Request) -> &str {
    call.headers.get("content-type").unwrap_or_default()
}

#[tokio::test]
async fn an_upload_is_the_same_on_every_attempt_and_after_a_crash() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(503),
        // The worker is killed during this call.
        1 => Reply::hang(),
        _ => Reply::ok(),
    })
    .await;
    let lease = || stage.worker().env("REDIAL_LEASE_MS", "1000");
    let worker = lease().spawn();
    let task = json!({"id": "a", "url": stage.url("/v1/files"), "parts": parts(), "idempotency_key": "k", "retry": {"base_ms": 10}});
    stage.queue.push(task.to_string()).await;
    let second_call = || async { (stage.upstream.count() == 2).then_some(()) };
    redial_tests::eventually(SOON, second_call).await;
    worker.kill9();
    let _worker = lease().spawn();
    let result = stage.queue.wait_result("a", SOON).await;
    assert_eq!(result["status"], "ok", "{result}");

    let calls = stage.upstream.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call.body == calls[0].body && content_type(call) == content_type(&calls[0])));
    let boundary = content_type(&calls[0]).strip_prefix("multipart/form-data; boundary=").unwrap();
    let text = String::from_utf8(calls[0].body.to_vec()).unwrap();
    assert_eq!(text.matches(boundary).count(), 3, "{text}");
    assert!(
        text.contains("name=\"file\"; filename=\"requests.jsonl\"\r\nContent-Type: application/jsonl\r\n\r\n{}\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn forms_and_parts_are_part_of_what_makes_two_calls_the_same() {
    let stage = Stage::answering(|request| Reply::ok().json(&json!({"nth": request.nth}))).await;
    let _worker = stage.worker().spawn();
    let answer = async |id: &str, field: &str, value: Value| {
        let mut task = json!({"id": id, "url": stage.url("/"), "cache_ttl_ms": 60_000});
        task[field] = value;
        let result = stage.answer(task).await;
        (result["source"].as_str().unwrap().to_owned(), result["body"]["nth"].clone())
    };
    assert_eq!(answer("1", "form", json!({"q": "a"})).await, ("call".into(), json!(0)));
    assert_eq!(answer("2", "form", json!({"q": "a"})).await, ("cache".into(), json!(0)));
    assert_eq!(answer("3", "form", json!({"q": "b"})).await, ("call".into(), json!(1)));
    assert_eq!(answer("4", "parts", parts()).await, ("call".into(), json!(2)));
    assert_eq!(answer("5", "parts", parts()).await, ("cache".into(), json!(2)));
    let mut other = parts();
    other[1]["filename"] = json!("other.jsonl");
    assert_eq!(answer("6", "parts", other).await, ("call".into(), json!(3)));
    let calls = stage.upstream.calls();
    assert_eq!((&calls[0].method.as_str(), content_type(&calls[0])), (&"POST", "application/x-www-form-urlencoded"));
    assert_eq!(calls[0].body, "q=a");

    // The same key with another upload is another call.
    for (id, name, reason) in [("7", "a.txt", Value::Null), ("8", "b.txt", json!("idempotency_mismatch"))] {
        let part = json!([{"name": "file", "filename": name, "text": "x"}]);
        let task = json!({"id": id, "url": stage.url("/"), "parts": part, "idempotency_key": "k"});
        assert_eq!(stage.answer(task).await["reason"], reason, "{id}");
    }
}

#[tokio::test]
async fn a_chain_fills_in_a_form_and_a_part() {
    let stage = Stage::answering(|_| Reply::ok().json(&json!({"id": 17, "text": "a&b"}))).await;
    let _worker = stage.worker().spawn();
    let last = json!({"id": "last", "url": stage.url("/last"), "parts": [{"name": "x", "text": "{{$.body.text}}"}]});
    let next = json!({"id": "next", "url": stage.url("/next"), "form": {"id": "{{$.body.id}}", "t": "{{$.body.text}}"}, "then": last});
    stage.queue.push(json!({"id": "first", "url": stage.url("/first"), "then": next}).to_string()).await;
    assert_eq!(stage.queue.wait_result("last", SOON).await["status"], "ok");
    assert_eq!(stage.upstream.calls_to("/next")[0].body, "id=17&t=a%26b");
    assert!(String::from_utf8_lossy(&stage.upstream.calls_to("/last")[0].body).contains("\r\n\r\na&b\r\n"));
}

#[tokio::test]
async fn an_invalid_upload_says_what_is_wrong_and_makes_no_call() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    for (id, field, value, says) in [
        ("nested", "form", json!({"a": {"b": 1}}), "`form` \"a\" is an object"),
        ("both", "form", json!({}), "more than one of"),
        ("empty", "parts", json!([]), "`parts` has 0 parts"),
        ("content", "parts", json!([{"name": "a"}]), "`parts[0]` has neither"),
        ("base64", "parts", json!([{"name": "a", "base64": "?"}]), "`parts[0]` has `base64`"),
        ("name", "parts", json!([{"text": "a"}]), "`parts[0]`"),
    ] {
        let mut task = json!({"id": id, "url": stage.url("/ok")});
        if id == "both" {
            task["body"] = json!(1);
        }
        task[field] = value;
        let result = stage.answer(task).await;
        assert_eq!((&result["reason"], attempts(&result)), (&json!("invalid_task"), 0), "{id}");
        assert!(result["error"].as_str().unwrap().contains(says), "{id}: {result}");
    }
    assert_eq!(stage.upstream.count(), 0);
}
