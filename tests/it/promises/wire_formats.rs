//! Responses in every form that servers send: content codings, odd headers, many headers, JSON by several names.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use redial_tests::{Reply, Request};
use serde_json::{Value, json};

use super::{Stage, attempts};

pub(super) fn gzip(text: &str) -> Vec<u8> {
    let pipe = |program: &str| {
        let mut child = std::process::Command::new(program)
            .args(["-c"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    pipe("gzip")
}

/// `{"ok":true}` as `brotli` compresses it, and in raw and zlib-wrapped deflate.
const BROTLI: &str = "CwWAeyJvayI6dHJ1ZX0D";
const DEFLATE: &str = "q1bKz1ayKikqTa0FAA==";
const ZLIB: &str = "eNqrVsrPVrIqKSpNrQUAFuMEEQ==";

fn coded(request: &Request) -> Reply {
    let (coding, body) = match request.route() {
        "/members" => ("gzip", [gzip("{\"ok\":"), gzip("true}")].concat()),
        "/x-gzip" => ("x-gzip", gzip("{\"ok\":true}")),
        "/case" => ("GZIP", gzip("{\"ok\":true}")),
        "/padded" => ("gzip", [gzip("{\"ok\":true}"), vec![0; 100]].concat()),
        "/raw" => ("deflate", BASE64.decode(DEFLATE).unwrap()),
        "/zlib" => ("deflate", BASE64.decode(ZLIB).unwrap()),
        "/brotli" => ("br", BASE64.decode(BROTLI).unwrap()),
        _ => ("identity", b"{\"ok\":true}".to_vec()),
    };
    Reply::ok().header("content-type", "application/json").header("content-encoding", coding).body(body)
}

#[tokio::test]
async fn every_content_coding_is_decoded() {
    let stage = Stage::answering(coded).await;
    let _worker = stage.worker().spawn();
    for path in ["members", "x-gzip", "case", "padded", "raw", "zlib", "brotli", "identity"] {
        let mut task = json!({"id": path, "url": stage.url(&format!("/{path}")), "retry": {"max_attempts": 1}});
        if path == "brotli" {
            task["headers"] = json!({"Accept-Encoding": "br"});
        }
        let result = stage.answer(task).await;
        assert_eq!((&result["status"], &result["body"]), (&json!("ok"), &json!({"ok": true})), "{path}: {result}");
        let call = stage.upstream.calls().pop().unwrap();
        let accepted = if path == "brotli" { "br" } else { "gzip, zstd" };
        assert_eq!(call.headers.get("accept-encoding"), Some(accepted), "{path}");
        if path != "identity" {
            assert_eq!(result["headers"].get("content-encoding"), None, "{path}: the body is decoded");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_its_coding_says_is_retried() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::ok().header("content-encoding", "gzip").body("<html>"),
        1 => Reply::ok().header("content-encoding", "gzip").body(gzip("{\"ok\":true}")[..20].to_vec()),
        _ => Reply::ok(),
    })
    .await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(json!({"id": "a", "url": stage.url("/"), "retry": {"base_ms": 10}})).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 3), "{result}");
    let error = result["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("the answer cannot be decoded"), "{error}");
}

#[tokio::test]
async fn headers_are_read_as_browsers_do() {
    let stage = Stage::answering(|request| match request.route() {
        "/folded" => Reply::raw("HTTP/1.1 200 OK\r\nx-note: one\r\n  two\r\ncontent-length: 2\r\n\r\nhi"),
        "/space" => Reply::raw("HTTP/1.1 200 OK\r\nx-note : one two\r\ncontent-length: 2\r\n\r\nhi"),
        "/line" => Reply::raw("HTTP/1.1 200 OK\r\nthis is no header\r\nx-note: one two\r\ncontent-length: 2\r\n\r\nhi"),
        "/tabs" => Reply::raw("HTTP/1.1 200 OK\r\nx-note:\t one two \t\r\ncontent-length: 2\r\n\r\nhi"),
        "/no-reason" => Reply::raw("HTTP/1.1 200\r\nx-note: one two\r\ncontent-length: 2\r\n\r\nhi"),
        "/lf" => Reply::raw("HTTP/1.1 200 OK\nx-note: one two\ncontent-length: 2\n\nhi"),
        "/old" => Reply::raw("HTTP/1.0 200 OK\r\nx-note: one two\r\n\r\nhi"),
        _ => (0..250)
            .fold(Reply::ok().header("x-note", "one two").body("hi"), |reply, n| reply.header(format!("x-{n}"), "v")),
    })
    .await;
    let _worker = stage.worker().spawn();
    for path in ["folded", "space", "line", "tabs", "no-reason", "lf", "old", "many"] {
        let task = json!({"id": path, "url": stage.url(&format!("/{path}")), "retry": {"max_attempts": 1}});
        let result = stage.answer(task).await;
        assert_eq!((&result["status"], &result["body_text"]), (&json!("ok"), &json!("hi")), "{path}: {result}");
        let note = result["headers"]["x-note"].as_str().unwrap_or_default();
        assert_eq!(note.split_whitespace().collect::<Vec<_>>(), ["one", "two"], "{path}: {note:?}");
    }
}

#[tokio::test]
async fn one_oversize_header_drops_itself_alone() {
    let stage = Stage::answering(|_| {
        Reply::ok().header("x-first", "1").header("x-large", "v".repeat(9_000)).header("x-last", "2")
    })
    .await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(json!({"id": "a", "url": stage.url("/")})).await;
    let headers = &result["headers"];
    assert_eq!((&headers["x-first"], &headers["x-last"]), (&json!("1"), &json!("2")), "{headers}");
    assert_eq!(headers.get("x-large"), None);
}

#[tokio::test]
async fn json_is_json_by_whatever_name() {
    let types = ["application/json", "text/json", "application/problem+json", "Application/JSON;charset=utf-8", ""];
    let stage = Stage::answering(move |request| {
        let nth = usize::try_from(request.nth).unwrap();
        let body = if request.route() == "/marked" { "\u{feff}{\"n\":1.50}" } else { "{\"n\":1.50}" };
        match types[nth % types.len()] {
            "" => Reply::ok().body(body),
            content_type => Reply::ok().header("content-type", content_type).body(body),
        }
    })
    .await;
    let _worker = stage.worker().spawn();
    for path in ["/plain", "/marked"] {
        for content_type in types {
            let id = format!("{path} {content_type}");
            stage.queue.push(json!({"id": id, "url": stage.url(path)}).to_string()).await;
            stage.queue.wait_result(&id, super::SOON).await;
            let raw = stage.redis.cli(&["GET", &format!("redial:{{default}}:result:{id}")]).await;
            assert!(raw.contains("\"body\":{\"n\":1.50}"), "{id}: {raw}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_json_stays_text() {
    let stage = Stage::answering(|_| Reply::ok().body("42")).await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(json!({"id": "a", "url": stage.url("/")})).await;
    assert_eq!((&result["body_text"], result.get("body")), (&json!("42"), None::<&Value>));
}
