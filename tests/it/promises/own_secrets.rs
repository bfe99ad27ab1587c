//! An upstream that echoes the worker's own secrets does not get them into Redis.

use std::time::Duration;

use redial_core::StreamEvent;
use redial_tests::{Reply, Request, Upstream};
use serde_json::{Value, json};

use super::streams::{Reading, reader};
use super::{SOON, Stage};

const KEY: &str = "sk-canary/0123456789";
const PASSWORD: &str = "canary-password";
/// `Basic` of `worker:canary-password`.
const LOGIN: &str = "d29ya2VyOmNhbmFyeS1wYXNzd29yZA==";

/// Answers with what it was sent, in the way that the path names.
fn echo(request: &Request) -> Reply {
    let header = |name: &str| request.headers.get(name).unwrap_or_default().to_owned();
    let (key, login) = (header("authorization"), header("x-login"));
    let told = format!("{key} and {login} and {PASSWORD}");
    match request.route().rsplit('/').next().unwrap_or_default() {
        "json" => Reply::ok().json(&json!({"you_sent": told, "escaped": "x"})),
        "slashes" => Reply::ok()
            .header("content-type", "application/json")
            .body(json!({"a": told}).to_string().replace('/', "\\/")),
        "header" => Reply::ok().header("x-echo", told),
        "error" => Reply::status(401).body(format!("the key {told} is wrong")),
        "binary" => Reply::ok().body([b"\xff\x00", told.as_bytes(), b"\xfe"].concat()),
        "stream" => {
            let body = format!("data: {told}\n\ndata: end\n\n");
            let pieces = body.as_bytes().chunks(5).map(|piece| (Duration::from_millis(5), piece.to_vec()));
            Reply::streamed(pieces.collect::<Vec<_>>()).header("content-type", "text/event-stream")
        }
        _ => Reply::ok().json(&json!({"secret": "sk-canary", "length": told.len()})),
    }
}

/// Everything that Redis holds, as text.
async fn dump(stage: &Stage) -> String {
    let keys = stage.redis.cli(&["KEYS", "*"]).await;
    let mut all = keys.clone();
    for key in keys.lines() {
        let read: &[&str] = match stage.redis.cli(&["TYPE", key]).await.as_str() {
            "string" => &["GET"],
            "list" => &["LRANGE"],
            "hash" => &["HGETALL"],
            "zset" => &["ZRANGE"],
            "stream" => &["XRANGE"],
            "set" => &["SMEMBERS"],
            _ => continue,
        };
        let range: &[&str] = match read {
            ["LRANGE" | "ZRANGE"] => &["0", "-1"],
            ["XRANGE"] => &["-", "+"],
            _ => &[],
        };
        all += &stage.redis.cli(&[read, &[key], range].concat()).await;
    }
    all
}

#[tokio::test]
async fn a_secret_that_an_upstream_echoes_is_taken_out_of_results_streams_and_caches() {
    let stage = Stage::on(Upstream::start(echo).await).await;
    let settings = tempfile::tempdir().unwrap();
    let file = settings.path().join("redial.toml");
    let headers =
        format!("Authorization = \"Bearer ${{KEY}}\", X-Login = \"Basic {LOGIN}\", Accept = \"application/json\"");
    std::fs::write(&file, format!("[[upstream]]\nurl = \"{}\"\nheaders = {{ {headers} }}\n", stage.url("/api")))
        .unwrap();
    let worker =
        stage.worker().env("KEY", KEY).env("RUST_LOG", "trace").arg("--config").arg(file.to_str().unwrap()).spawn();
    worker.wait_ready().await;

    let names = ["json", "slashes", "header", "error", "binary", "plain"];
    for name in names {
        let task = json!({"id": name, "url": stage.url(&format!("/api/{name}")), "cache_ttl_ms": 60_000, "reply_to": "answers:a"});
        stage.queue.push(task.to_string()).await;
    }
    let results = stage.queue.wait_results(&names.map(str::to_owned), SOON).await;
    let [json, slashes, header, error, binary, plain] = &results[..] else { panic!("{results:?}") };
    let cleaned = "Bearer [redacted] and Basic [redacted] and [redacted]";
    assert_eq!(json["body"]["you_sent"], cleaned);
    assert_eq!(slashes["body"]["a"], cleaned);
    assert_eq!(header["headers"]["x-echo"], cleaned);
    assert_eq!(
        (&error["status"], &error["body_text"]),
        (&json!("dead"), &json!(format!("the key {cleaned} is wrong")))
    );
    assert_eq!(error["headers"]["content-length"], Value::Null, "its length has changed: {error}");
    assert!(binary["body_base64"].is_string(), "{binary}");
    assert_eq!(plain["body"]["secret"], "sk-canary", "what only resembles a secret is left alone");

    let streamed = json!({"id": "stream", "url": stage.url("/api/stream"), "stream": true});
    let result = stage.answer(streamed).await;
    let expected = format!("data: {cleaned}\n\ndata: end\n\n");
    assert_eq!(result["body_text"], expected.as_str(), "{result}");
    let reading = Reading::all(&reader(&stage), "stream").await;
    assert_eq!((reading.text(), reading.restarts), (expected, 0));
    assert!(matches!(reading.last, Some(StreamEvent::End)));

    let held = dump(&stage).await;
    for secret in ["canary/0123456789", PASSWORD, LOGIN] {
        assert!(!held.contains(secret), "{secret} is in Redis: {held}");
        assert!(!worker.log().contains(secret), "{secret} is in the log");
    }
    assert!(held.contains("[redacted]"));
    let seen = stage.upstream.calls_to("/api/json");
    assert_eq!(seen[0].headers.get("authorization"), Some(format!("Bearer {KEY}").as_str()), "the upstream gets it");
}

#[tokio::test]
async fn an_answer_of_an_upstream_without_credentials_is_stored_as_it_is() {
    let stage = Stage::on(Upstream::start(echo).await).await;
    let _worker = stage.worker().env("KEY", KEY).spawn();
    let task = json!({"id": "a", "url": stage.url("/json"), "headers": {"Authorization": format!("Bearer {KEY}")}});
    let result = stage.answer(task).await;
    // The task brought this key itself, so that whoever may read the task has it.
    assert!(result["body"]["you_sent"].as_str().is_some_and(|sent| sent.contains(KEY)), "{result}");
}
