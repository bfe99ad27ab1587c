//! From one `LPUSH` to a result, for every form of task.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use redial_tests::eventually;
use serde_json::{Value, json};

use super::{SOON, Stage, attempts};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn one_raw_lpush_yields_a_result_readable_with_one_get() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let task = format!(r#"{{"id":"a","url":"{}"}}"#, stage.url("/ok"));
    let pushed = stage.redis.cli(&["LPUSH", "redial:{default}", &task]).await;
    assert_eq!(pushed, "1");

    let get = || async {
        let result = stage.redis.cli(&["GET", "redial:{default}:result:a"]).await;
        (!result.is_empty()).then_some(result)
    };
    let result: Value = serde_json::from_str(&eventually(SOON, get).await).unwrap();
    assert_eq!(result["id"], "a");
    assert_eq!(result["status"], "ok");
    assert_eq!(result["http_status"], 200);
    assert_eq!(result["body"], json!({"ok": true}));
    assert_eq!(stage.upstream.calls()[0].method, "GET");
}

#[tokio::test]
async fn a_task_without_an_id_is_given_a_uuid_v7() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let task = json!({"url": stage.url("/ok"), "reply_to": "answers:mine"});
    stage.queue.push(task.to_string()).await;

    let reply = stage.redis.cli(&["BRPOP", "answers:mine", "30"]).await;
    let (list, reply) = reply.split_once('\n').expect("a reply within 30 s");
    assert_eq!(list, "answers:mine");
    let reply: Value = serde_json::from_str(reply).unwrap();
    let id = reply["id"].as_str().unwrap();
    let groups: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
    assert!(groups[2].starts_with('7'), "{id}");
    // A caller that waits with BRPOP and one that uses GET read the same.
    assert_eq!(stage.queue.result(id).await.unwrap(), reply);
}

#[tokio::test]
async fn every_body_form_reaches_the_upstream_unchanged() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let bytes: Vec<u8> = (0..=255).collect();
    let large = "x".repeat(MIB - 1);
    let huge_number = r#"{"n":9007199254740993,"a":[],"f":1.50}"#;
    let cases = [
        ("json", json!({"body": {"text": "grüß dich, 世界 🦀"}}), r#"{"text":"grüß dich, 世界 🦀"}"#.into()),
        ("text", json!({"body_text": "zwei\nZeilen \u{0}"}), b"zwei\nZeilen \0".to_vec()),
        ("base64", json!({"body_base64": BASE64.encode(&bytes)}), bytes),
        ("large", json!({"body_text": large}), large.clone().into_bytes()),
        ("null", json!({"body_text": ""}), Vec::new()),
    ];
    for (id, mut task, expected) in cases {
        task["id"] = id.into();
        task["url"] = stage.url(&format!("/ok?{id}")).into();
        let result = stage.answer(task).await;
        assert_eq!(result["status"], "ok", "{id}: {result}");
        let calls = stage.upstream.calls();
        let call = calls.last().unwrap();
        assert_eq!(call.method, "POST", "{id}");
        assert!(call.body == expected, "{id}: {} bytes", call.body.len());
    }
    // The body's bytes are kept as they are; re-encoding would change them.
    let raw = format!(r#"{{"id":"n","url":"{}","body":{huge_number}}}"#, stage.url("/ok"));
    stage.queue.push(raw).await;
    stage.queue.wait_result("n", SOON).await;
    assert_eq!(stage.upstream.calls().last().unwrap().body, huge_number);
}

#[tokio::test]
async fn the_largest_json_body_and_unicode_in_every_field_work() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let body = "y".repeat(MIB - 3);
    let result = stage.answer(json!({"id": "big", "url": stage.url("/echo"), "body": body})).await;
    assert_eq!(result["status"], "ok");
    assert_eq!(result["body"]["body"], body);
    assert_eq!(stage.upstream.calls()[0].body.len(), MIB - 1);

    let task = json!({
        "id": "ünïcode is not for ids, but ~ and spaces are".replace(['ü', 'ï'], "."),
        "url": stage.url("/echo?q=größe"),
        "headers": {"X-Name": "Zoë"},
        "body": {"ключ": "значение"},
        "meta": {"名前": ["値", null, 1.5]},
    });
    let result = stage.answer(task).await;
    assert_eq!(result["meta"], json!({"名前": ["値", null, 1.5]}));
    assert_eq!(result["body"]["body"], json!({"ключ": "значение"}));
    assert_eq!(result["body"]["headers"]["x-name"], "Zoë");
    assert_eq!(result["body"]["path"], "/echo?q=gr%C3%B6%C3%9Fe");
}

#[tokio::test]
async fn traceparent_and_idempotency_key_stay_the_same_on_every_attempt() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let task = json!({
        "id": "a", "url": stage.url("/flaky/2/503?key=a"), "body": {"n": 1}, "headers": {"x-tenant": "t1"},
        "traceparent": trace, "idempotency_key": "order-17", "retry": {"base_ms": 10},
    });
    let result = stage.answer(task).await;
    assert_eq!(attempts(&result), 3);
    let calls = stage.upstream.calls();
    assert_eq!(calls.len(), 3);
    for call in &calls {
        assert_eq!(call.headers.get("traceparent"), Some(trace));
        assert_eq!(call.headers.get("idempotency-key"), Some("order-17"));
        assert_eq!(call.headers.get("x-tenant"), Some("t1"));
        assert_eq!(call.headers.get("content-type"), Some("application/json"));
        assert_eq!(call.body, calls[0].body);
    }
}
