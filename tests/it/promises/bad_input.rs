//! An invalid task becomes a dead letter with its exact bytes, and blocks neither its worker nor other tasks.

use std::collections::HashMap;

use redial_tests::eventually;
use serde_json::{Value, json};

use super::{SOON, Stage, answered, assert_counted, ids};

/// What is pushed, the reason of its dead letter, a part of the error message, and the id if it can be read.
struct InvalidInput {
    bytes: Vec<u8>,
    reason: &'static str,
    expected: &'static str,
    id: Option<&'static str>,
}

fn invalid(bytes: impl Into<Vec<u8>>, expected: &'static str) -> InvalidInput {
    InvalidInput { bytes: bytes.into(), reason: "invalid_task", expected, id: None }
}

impl InvalidInput {
    fn of(mut self, id: &'static str) -> Self {
        self.id = Some(id);
        self
    }
}

fn not_json(url: &str) -> Vec<InvalidInput> {
    let nested = "[".repeat(10_000) + &"]".repeat(10_000);
    vec![
        invalid("", "not JSON"),
        invalid("hello", "not JSON"),
        invalid("{\"url\":", "not JSON"),
        invalid("{'url': 'http://a/'}", "not JSON"),
        invalid(format!(r#"{{"url":"{url}"}} and more"#), "not one JSON object"),
        invalid(vec![0_u8; 100], "not JSON"),
        invalid(b"\xef\xbb\xbf{}".to_vec(), "not JSON"),
        invalid("[]", "not an object"),
        invalid(r#""http://a/""#, "not an object"),
        invalid("null", "not an object"),
        invalid("17", "not an object"),
        invalid("{}", "url"),
        invalid([&b"{\"id\":\"u8\",\"url\":\"http://a/"[..], b"\xff\xfe\"}"].concat(), "not UTF-8").of("u8"),
        invalid(format!(r#"{{"url":"{url}","body":{nested}}}"#), "nests deeper"),
        invalid(format!(r#"{{"id":"deep","url":"{url}","body":{nested}}}"#), "nests deeper").of("deep"),
        invalid("{\"a\":".repeat(10_000), "nests deeper"),
        invalid(format!(r#"{{"id":"twice","url":"{url}","url":"{url}"}}"#), "url").of("twice"),
    ]
}

/// Tasks with exactly one invalid field.
fn wrong_fields(url: &str) -> Vec<InvalidInput> {
    let field = |id: &'static str, name: &str, value: Value, expected| {
        let mut task = json!({"id": id, "url": url});
        task[name] = value;
        invalid(task.to_string(), expected).of(id)
    };
    let header = |id, name: &str, value: &str, expected| field(id, "headers", json!({name: value}), expected);
    vec![
        field("url", "url", json!(5), "url"),
        field("relative", "url", json!("/v1/extract"), "`url`"),
        field("no-host", "url", json!("http://"), "`url`"),
        field("scheme", "url", json!("file:///etc/passwd"), "only http and https"),
        field("gopher", "url", json!("gopher://127.0.0.1:6379/_FLUSHALL"), "only http and https"),
        field("method", "method", json!("BREW"), "`method` \"BREW\""),
        field("smuggle", "method", json!("GET / HTTP/1.1\r\nx: y"), "`method`"),
        header("crlf", "x-a", "b\r\nx-evil: c", "control character"),
        header("lf-name", "x-a\nx-evil", "c", "not a valid header name"),
        header("host", "Host", "elsewhere", "belongs to the connection"),
        header("length", "Content-Length", "0", "belongs to the connection"),
        header("chunked", "Transfer-Encoding", "chunked", "belongs to the connection"),
        field("headers", "headers", json!(["x-a: b"]), "headers"),
        field("base64", "body_base64", json!("***"), "`body_base64`"),
        field("timeout", "timeout_ms", json!("soon"), "timeout_ms"),
        field("negative", "timeout_ms", json!(-1), "timeout_ms"),
        field("zero", "timeout_ms", json!(0), "`timeout_ms`"),
        field("attempts", "retry", json!({"max_attempts": 0}), "retry.max_attempts"),
        field("jitter", "retry", json!({"jitter": "lots"}), "jitter"),
        field("effect", "effect", json!("twice"), "effect"),
        field("trace", "traceparent", json!("a\nb"), "traceparent"),
        field("key", "idempotency_key", json!(""), "idempotency_key"),
        field("limit", "limit", json!({"rate": 1}), "limit"),
        field("reply", "reply_to", json!(""), "reply_to"),
        invalid(format!(r#"{{"id":"{}","url":"{url}"}}"#, "i".repeat(201)), "`id` has 201 bytes"),
        invalid(format!(r#"{{"id":"ümlaut","url":"{url}"}}"#), "printable ASCII"),
        invalid(format!(r#"{{"id":17,"url":"{url}"}}"#), "id"),
    ]
}

fn too_large(url: &str) -> [InvalidInput; 2] {
    let text = "x".repeat(2 << 20);
    let task = format!(r#"{{"id":"large","url":"{url}","body_text":"{text}"}}"#);
    [invalid(task, "at most 1114112").of("large"), invalid(text, "at most 1114112")]
        .map(|bad| InvalidInput { reason: "too_large", ..bad })
}

#[tokio::test]
async fn an_invalid_task_is_dead_lettered_verbatim_and_blocks_nothing() {
    let stage = Stage::unruly().await;
    let url = stage.url("/bad");
    let mut bad = not_json(&url);
    bad.extend(wrong_fields(&url));
    bad.extend(too_large(&url));
    let good = ids("good", bad.len());
    for (bad, id) in bad.iter().zip(&good) {
        stage.queue.push(json!({"id": id, "url": stage.url("/ok")}).to_string()).await;
        stage.queue.push(&bad.bytes).await;
    }
    let worker = stage.worker().spawn();
    assert_eq!(answered(&stage.queue.wait_results(&good, SOON).await), good.len());
    let all_dead = || async {
        let dead = stage.queue.dead().await;
        (dead.len() == bad.len()).then_some(dead)
    };
    let mut letters: HashMap<Vec<u8>, Value> = HashMap::new();
    for letter in eventually(SOON, all_dead).await {
        letters.insert(letter.raw, letter.header);
    }
    for InvalidInput { bytes, reason, expected, id } in &bad {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
        let header = letters.get(bytes).unwrap_or_else(|| panic!("no dead letter for {shown}"));
        assert_eq!(header["reason"], *reason, "{shown}: {header}");
        assert!(header["error"].as_str().unwrap().contains(expected), "{shown}: {header} does not contain {expected}");
        assert_eq!(header["id"], json!(id), "{shown}");
        if let Some(id) = id {
            let result = stage.queue.result(id).await;
            let result = result.unwrap_or_else(|| panic!("{id} has no result"));
            assert_eq!((&result["status"], &result["reason"]), (&json!("dead"), &json!(reason)));
            assert_eq!(result["error"], header["error"]);
        }
    }
    assert_eq!(stage.upstream.calls_to("/bad").len(), 0);
    assert_eq!(stage.upstream.count(), good.len() as u64);
    assert!(worker.is_running());
    let invalid = r#"redial_tasks_dead_total{reason="invalid_task"}"#;
    let large = r#"redial_tasks_dead_total{reason="too_large"}"#;
    assert_counted(&worker, large, 2).await;
    assert_counted(&worker, invalid, bad.len() as u64 - 2).await;
}

#[tokio::test]
async fn the_sender_of_an_invalid_task_is_answered_on_its_reply_list() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    stage.queue.push(r#"{"id":"a","url":"nowhere","reply_to":"answers:mine","meta":{"order": 7}}"#).await;
    stage.queue.push(r#"{"url":"nowhere","reply_to":"answers:mine","meta":{"order": 7}}"#).await;
    // Without a valid id, the reply list is the only way to tell the sender.
    stage.queue.push(r#"{"id":"ümlaut","url":"nowhere","reply_to":"answers:mine","meta":{"order": 7}}"#).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let reply = stage.redis.cli(&["BRPOP", "answers:mine", "30"]).await;
        let (_, reply) = reply.split_once('\n').expect("a reply within 30 s");
        let reply: Value = serde_json::from_str(reply).unwrap();
        assert_eq!((&reply["reason"], &reply["meta"]), (&json!("invalid_task"), &json!({"order": 7})));
        ids.push(reply["id"].clone());
    }
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, [json!("a"), Value::Null, Value::Null]);
}

#[tokio::test]
async fn a_reply_to_key_that_is_not_a_list_does_not_block_the_result() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_REPLY_LISTS", "*").spawn();
    stage.redis.cli(&["SET", "answers:taken", "by a string"]).await;
    let result = stage.answer(json!({"id": "a", "url": stage.url("/ok"), "reply_to": "answers:taken"})).await;
    assert_eq!(result["status"], "ok");
    let own_queue = json!({"id": "b", "url": stage.url("/ok"), "reply_to": "redial:{default}:stats"});
    assert_eq!(stage.answer(own_queue).await["reason"], "invalid_task");
    let beside_it = json!({"id": "c", "url": stage.url("/ok"), "reply_to": "redial:{default}:answers"});
    assert_eq!(stage.answer(beside_it).await["status"], "ok");
    assert_eq!(stage.redis.cli(&["LLEN", "redial:{default}:answers"]).await, "1");
    assert_eq!(stage.redis.cli(&["GET", "answers:taken"]).await, "by a string");
}

#[tokio::test]
async fn unknown_fields_are_ignored_counted_and_logged_once() {
    let stage = Stage::unruly().await;
    let worker = stage.worker().spawn();
    for id in ["a", "b", "c"] {
        let task = json!({"id": id, "url": stage.url("/ok"), "priority": 9, "colour": "red"});
        assert_eq!(stage.answer(task).await["status"], "ok");
    }
    for field in ["priority", "colour"] {
        let ignored = format!(r#"redial_ignored_fields_total{{field="{field}"}}"#);
        assert_counted(&worker, &ignored, 3).await;
        let lines = worker.log().lines().filter(|line| line.contains(&format!("\"{field}\""))).count();
        assert_eq!(lines, 1, "{}", worker.log());
    }
}
