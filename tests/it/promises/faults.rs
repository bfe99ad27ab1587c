//! Every way in which a call can break before its response is complete: it is retried, and dead only once all attempts have failed.

use std::time::Duration;

use redial_tests::{Port, Reply, Request};
use serde_json::{Value, json};

use super::{CalledPaths, SOON, Stage, assert_counted, attempts, counter, number};

/// The faults of the upstream, the error that the result shows for each, and its name in the metrics.
const BREAKS: [(&str, &str, &str); 6] = [
    ("/reset", "connection reset", "reset"),
    ("/close", "connection closed before the answer", "closed"),
    ("/truncated", "the answer broke off", "truncated"),
    ("/chunks-cut-off", "the answer broke off", "truncated"),
    ("/garbage", "the answer is not HTTP", "not_http"),
    ("/hang", "no answer within timeout_ms", "timeout"),
];

fn broken(request: &Request) -> Reply {
    match request.route() {
        "/reset" => Reply::reset(),
        "/close" => Reply::close(),
        "/truncated" => Reply::truncated("{\"ok\":tr"),
        "/chunks-cut-off" => Reply::chunks_cut_off("{\"ok\":tr"),
        "/garbage" => Reply::garbage(),
        _ => Reply::hang(),
    }
}

#[tokio::test]
async fn a_broken_call_is_retried_until_its_attempts_are_exhausted() {
    let stage = Stage::answering(broken).await;
    let worker = stage.worker().spawn();
    let retry = json!({"max_attempts": 3, "base_ms": 10, "cap_ms": 50});
    for (path, ..) in BREAKS {
        let task = json!({"id": path, "url": stage.url(path), "retry": retry, "timeout_ms": 1_000, "body": [1]});
        stage.queue.push(task.to_string()).await;
    }
    for (path, expected, label) in BREAKS {
        let result = stage.queue.wait_result(path, SOON).await;
        assert_exhausted(&result, 3, expected);
        assert_eq!(stage.upstream.calls_to(path).len(), 3, "{path}");
        let retries = format!(r#"redial_retries_total{{reason="{label}"}}"#);
        assert!(counter(&worker, &retries).await >= 2, "{retries}");
    }
    assert_eq!(stage.queue.dead().await.len(), BREAKS.len());
    assert_counted(&worker, "redial_retries_total", 12).await;
}

#[tokio::test]
async fn a_call_that_breaks_once_succeeds_on_the_next_attempt() {
    let seen = CalledPaths::default();
    let stage = Stage::answering(move |request| {
        if seen.is_first_call(request) { broken(request) } else { Reply::ok().json(&json!({"ok": true})) }
    })
    .await;
    let _worker = stage.worker().spawn();
    for (path, ..) in BREAKS {
        let task = json!({"id": path, "url": stage.url(path), "retry": {"base_ms": 10}, "timeout_ms": 1_000});
        stage.queue.push(task.to_string()).await;
    }
    for (path, ..) in BREAKS {
        let result = stage.queue.wait_result(path, SOON).await;
        assert_eq!(result["status"], "ok", "{path}: {result}");
        assert_eq!(attempts(&result), 2, "{path}");
    }
}

#[tokio::test]
async fn an_unreachable_upstream_is_retried_until_attempts_are_exhausted() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let refused = Port::claim();
    let retry = json!({"max_attempts": 2, "base_ms": 10});
    let refused = json!({"id": "refused", "url": format!("http://127.0.0.1:{}/", refused.number()), "retry": retry});
    assert_exhausted(&stage.answer(refused).await, 2, "connection refused");

    // The TLD "invalid" never exists (RFC 2606). If no resolver replies, the error is a timeout instead.
    let nowhere = json!({"id": "dns", "url": "http://no-such-host.invalid/", "retry": retry, "timeout_ms": 3_000});
    let result = stage.answer(nowhere).await;
    let error = result["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.starts_with("DNS: ") || error.starts_with("no "), "{result}");
    assert_exhausted(&result, 2, "");

    let no_tls = json!({"id": "tls", "url": stage.url("/ok").replace("http://", "https://"), "retry": retry});
    let result = stage.answer(no_tls).await;
    assert!(result["error"].as_str().unwrap_or_default().contains("tls handshake"), "{result}");
    assert_exhausted(&result, 2, "");
}

#[tokio::test]
async fn the_timeout_covers_the_whole_attempt_including_a_trickling_body() {
    let stage = Stage::answering(|_| Reply::ok().body("late").body_after(Duration::from_secs(20))).await;
    let _worker = stage.worker().spawn();
    let task = json!({"id": "a", "url": stage.url("/"), "timeout_ms": 700, "retry": {"max_attempts": 1}});
    let result = stage.answer(task).await;
    assert_exhausted(&result, 1, "no answer within timeout_ms");
    let took = number(&result["attempts"][0]["took_ms"]);
    assert!((700..5_000).contains(&took), "{took} ms");
    assert_eq!(result["http_status"], Value::Null, "an incomplete response does not count");
}

fn assert_exhausted(result: &Value, calls: usize, expected: &str) {
    assert_eq!(result["status"], "dead", "{result}");
    assert_eq!(result["reason"], "attempts_exhausted", "{result}");
    assert_eq!(attempts(result), calls, "{result}");
    for (n, attempt) in result["attempts"].as_array().unwrap().iter().enumerate() {
        let error = attempt["error"].as_str().unwrap_or_default();
        assert!(error.starts_with(expected), "{attempt} instead of {expected}");
        assert_eq!(attempt["http_status"], Value::Null, "{attempt}");
        assert_eq!(attempt["wait_ms"].is_u64(), n + 1 < calls, "{attempt}");
    }
}
