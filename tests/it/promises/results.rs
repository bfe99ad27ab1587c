//! Results: their form, fields, time to live and limits.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use redial_tests::{Reply, eventually};
use serde_json::{Value, json};

use super::{SOON, Stage, attempts, number};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn tasks_can_share_a_reply_list_and_it_expires_after_the_result_ttl() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let url = stage.url("/ok");
    let tasks =
        ["a", "b", "c"].map(|id| json!({"id": id, "url": url, "reply_to": "answers:list", "result_ttl_ms": 60_000}));
    for task in &tasks {
        stage.answer(task.clone()).await;
    }
    assert_eq!(stage.redis.cli(&["LLEN", "answers:list"]).await, "3");
    for key in ["answers:list", "redial:{default}:result:a"] {
        let left: u64 = stage.redis.cli(&["PTTL", key]).await.parse().unwrap();
        assert!((20_000..=60_000).contains(&left), "{key}: {left}");
    }

    stage.answer(json!({"id": "d", "url": url})).await;
    let left = stage.redis.cli(&["PTTL", "redial:{default}:result:d"]).await;
    let left: u64 = left.parse().unwrap();
    assert!((3_500_000..=3_600_000).contains(&left), "an hour: {left}");

    stage.answer(json!({"id": "e", "url": url, "result_ttl_ms": 3_000})).await;
    let gone = || async { stage.queue.result("e").await.is_none().then_some(()) };
    eventually(SOON, gone).await;
}

#[tokio::test]
async fn a_large_result_is_stored_whole_also_if_redis_refuses_to_take_it_by_itself() {
    let stage = Stage::answering(|_| Reply::ok().header("content-type", "text/plain").body("½\n".repeat(MIB))).await;
    let task = |id: &str| json!({"id": id, "url": stage.url("/"), "result_ttl_ms": 600_000});
    let check = async |answer: Value, moved: u64, left_behind: usize| {
        assert_eq!(answer["body_text"].as_str().map(str::len), Some(3 * MIB), "{}", answer["id"]);
        let key = format!("redial:{{default}}:result:{}", answer["id"].as_str().unwrap());
        let left: u64 = stage.redis.cli(&["PTTL", &key]).await.parse().unwrap();
        assert!((100_000..=600_000).contains(&left), "{left}");
        assert_eq!(stage.redis.cli(&["KEYS", "*:upload:*"]).await.lines().count(), left_behind, "uploads");
        assert_eq!(stage.redis.calls_of("rename").await, moved, "results that no script has seen");
    };
    stage.queue.push(task("full").to_string()).await;
    stage.redis.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let _worker = stage.worker().spawn();
    check(stage.queue.wait_result("full", SOON).await, 0, 0).await;

    stage.redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    check(stage.answer(task("plain")).await, 1, 0).await;

    stage.redis.cli(&["ACL", "SETUSER", "default", "-rename"]).await;
    // What could not be moved expires.
    check(stage.answer(task("refused")).await, 1, 1).await;
    stage.redis.cli(&["ACL", "SETUSER", "default", "+rename"]).await;

    let mut replied = task("replied");
    replied["reply_to"] = json!("answers:list");
    check(stage.answer(replied).await, 1, 1).await;
    assert_eq!(stage.redis.cli(&["LLEN", "answers:list"]).await, "1");
}

#[tokio::test]
async fn a_response_body_is_stored_as_json_text_or_base64() {
    let stage = Stage::answering(|request| match request.route() {
        "/json" => Reply::ok()
            .header("content-type", "application/problem+json")
            .body("{\"n\": 9007199254740993,\n \"a\": {}}"),
        "/text" => Reply::ok().header("content-type", "text/plain").body("{} ½"),
        "/bytes" => Reply::ok().body(vec![0xff, 0x00, 0xfe]),
        _ => Reply::status(204),
    })
    .await;
    let _worker = stage.worker().spawn();
    let get = |id: &str| stage.answer(json!({"id": id, "url": stage.url(&format!("/{id}"))}));

    assert_eq!(get("json").await["body"], json!({"n": 9_007_199_254_740_993_u64, "a": {}}));
    assert_eq!(get("text").await["body_text"], "{} ½");
    assert_eq!(get("bytes").await["body_base64"], BASE64.encode([0xff, 0x00, 0xfe]));
    let nothing = get("nothing").await;
    assert_eq!(nothing["http_status"], 204);
    assert_eq!(nothing["body_text"], "");
    // A single line, so that line-based tools can read it.
    let raw = stage.redis.cli(&["GET", "redial:{default}:result:json"]).await;
    assert!(!raw.contains('\n'));
}

#[tokio::test]
async fn a_result_has_exactly_the_documented_fields() {
    let stage = Stage::answering(|request| {
        let reply = if request.route() == "/no" { Reply::status(422) } else { Reply::ok() };
        reply.header("X-Request-Id", "r1").header("Set-Cookie", "session=secret").json(&json!({"ok": true}))
    })
    .await;
    let _worker = stage.worker().spawn();
    let common = [
        "id",
        "status",
        "http_status",
        "headers",
        "body",
        "reason",
        "error",
        "attempts",
        "source",
        "finished_at_ms",
        "meta",
    ];
    let good = stage.answer(json!({"id": "a", "url": stage.url("/yes")})).await;
    assert_fields(&good, &common);
    assert_eq!(good["source"], "call");
    assert_eq!((&good["reason"], &good["error"], &good["meta"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!(good["headers"]["x-request-id"], "r1");
    assert_eq!(good["headers"].get("set-cookie"), None, "a cookie is a credential");
    let attempt = &good["attempts"][0];
    let fields = ["at_ms", "took_ms", "http_status", "error", "wait_ms"];
    assert_fields(attempt, &fields);
    assert!(number(&attempt["at_ms"]) + number(&attempt["took_ms"]) <= number(&good["finished_at_ms"]));
    assert_eq!((&attempt["error"], &attempt["wait_ms"]), (&Value::Null, &Value::Null));

    let task = json!({"id": "b", "url": stage.url("/no"), "meta": [1], "enqueued_at_ms": 1_763_900_000_000_u64});
    let bad = stage.answer(task).await;
    let with_time = [&common[..], &["enqueued_at_ms"]].concat();
    assert_fields(&bad, &with_time);
    assert_eq!(bad["status"], "dead");
    assert_eq!(bad["reason"], "rejected");
    assert_eq!(bad["meta"], json!([1]));
    assert_eq!(bad["enqueued_at_ms"], 1_763_900_000_000_u64);
    for result in [&good, &bad] {
        assert_valid(&redial_core::protocol::schema::result(), result);
    }
}

#[test]
fn the_published_schema_accepts_every_task_field_and_rejects_wrong_types() {
    let schema = redial_core::protocol::schema::task();
    let whole = json!({
        "id": "a", "url": "https://h/", "method": "POST", "headers": {"Accept": "*/*"}, "body": {"n": [1, null]},
        "timeout_ms": 1, "connect_timeout_ms": 1,
        "retry": {"max_attempts": 3, "base_ms": 1, "cap_ms": 2, "jitter": "equal", "on": [418]},
        "expires_at_ms": 1, "ttl_ms": 1, "run_at_ms": 1, "delay_ms": 1, "idempotency_key": "k", "effect": "once",
        "cache_ttl_ms": 1, "cache_key": "k", "cache_scope": "public", "limit": ["a", {"name": "b", "rate": 0.5, "concurrency": 2}],
        "reply_to": "answers", "result_ttl_ms": 1, "callback_url": "https://h/",
        "then": {"url": "https://h/{{$.body.id}}"}, "traceparent": "00-1", "meta": 1,
        "enqueued_at_ms": 1, "of_a_later_version": true,
    });
    assert_valid(&schema, &whole);
    assert!(redial_core::Task::parse(whole.to_string().as_bytes(), redial_core::protocol::task::MAX_BYTES).is_ok());
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for wrong in [json!({}), json!({"url": 5}), json!({"url": "https://h/", "timeout_ms": "5"}), json!([])] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

fn assert_valid(schema: &str, value: &Value) {
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let faults: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{value}: {faults:?}");
}

#[tokio::test]
async fn an_oversized_response_is_dead_lettered_even_if_compressed() {
    let bomb = gzipped_zeros(64 * MIB).await;
    assert!(bomb.len() < MIB);
    let stage = Stage::answering(move |request| match request.route() {
        "/bomb" => Reply::ok().header("content-encoding", "gzip").body(bomb.clone()),
        "/limit" => Reply::ok().body(vec![b'x'; 10 * MIB]),
        _ => Reply::ok().body(vec![b'x'; 10 * MIB + 1]),
    })
    .await;
    let worker = stage.worker().spawn();
    for path in ["bomb", "over"] {
        let result = stage.answer(json!({"id": path, "url": stage.url(&format!("/{path}"))})).await;
        assert_eq!(result["status"], "dead", "{path}");
        assert_eq!(result["reason"], "too_large", "{path}");
        assert_eq!(attempts(&result), 1, "{path}: no second call for more of it");
        assert_eq!(result.get("body_text"), None, "{path}");
    }
    let result = stage.answer(json!({"id": "limit", "url": stage.url("/limit")})).await;
    assert_eq!(result["body_text"].as_str().map(str::len), Some(10 * MIB));
    let peak = worker.peak_rss_bytes();
    assert!(peak < 200 * MIB as u64, "{peak} bytes for responses of at most 10 MiB");
}

fn assert_fields(value: &Value, names: &[&str]) {
    let found: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, names.iter().copied().collect());
}

async fn gzipped_zeros(bytes: usize) -> Vec<u8> {
    let pipe = format!("head -c {bytes} /dev/zero | gzip -9");
    let run = tokio::process::Command::new("sh").args(["-c", &pipe]).output();
    let output = tokio::time::timeout(Duration::from_secs(30), run).await;
    output.unwrap().unwrap().stdout
}
