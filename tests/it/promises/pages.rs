//! The worker's HTTP endpoints: nobody who reaches them can hold up the worker, its other readers, or read it from a web page.

use redial_tests::{Reply, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{SOON, Stage, ids};

/// What a page answers to these bytes.
async fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn readers_that_send_their_requests_slowly_or_not_at_all_are_few_and_brief() {
    let stage = Stage::answering(|_| Reply::ok()).await;
    let worker = stage.ready_worker().await;
    let port = worker.metrics_port();
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: loc").await.unwrap();
        slow.push(socket);
    }
    // All places are taken: another connection is closed at once, before it has sent anything.
    let mut beyond = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let closed = tokio::time::timeout(SOON, beyond.read_u8()).await.expect("it does not wait");
    assert!(closed.is_err());
    // The worker works on meanwhile, and so do its pages a little later, although nobody has closed a connection.
    assert_eq!(stage.answer(json!({"id": "a", "url": stage.url("/")})).await["status"], "ok");
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let is_served = || async { ask(port, request).await.ok().filter(|answer| answer.contains("200 OK")) };
    eventually(SOON, is_served).await;
    for mut socket in slow {
        let mut left = Vec::new();
        // Whether it is closed or reset, it ends.
        let _ = tokio::time::timeout(SOON, socket.read_to_end(&mut left)).await.expect("a slow reader is sent away");
        assert!(!String::from_utf8_lossy(&left).contains("200 OK"));
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_read_for_ever() {
    let stage = Stage::answering(|_| Reply::ok()).await;
    let worker = stage.ready_worker().await;
    let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{}", "x-more: 0123456789\r\n".repeat(5_000));
    // It is answered with an error, or cut off while it is still sent.
    let answer = ask(worker.metrics_port(), &head).await.unwrap_or_default();
    assert!(!answer.contains("200 OK"), "{answer}");
    assert_eq!(worker.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn the_metrics_are_served_only_under_names_that_a_web_page_cannot_have() {
    let stage = Stage::answering(|_| Reply::ok()).await;
    let worker = stage.worker().env("REDIAL_METRICS_HOSTS", "metrics.example.com").spawn();
    worker.wait_ready().await;
    for (host, path, status) in [
        ("localhost", "/metrics", "200"),
        ("127.0.0.1:9464", "/metrics", "200"),
        ("10.1.2.3:9464", "/metrics", "200"),
        ("redial-worker:9464", "/metrics", "200"),
        ("metrics.example.com", "/metrics", "200"),
        ("evil.example", "/metrics", "421"),
        ("metrics.example.com.evil.example", "/metrics", "421"),
        // Probes of load balancers have any name, and these pages tell nothing.
        ("evil.example", "/healthz", "200"),
        ("evil.example", "/readyz", "200"),
    ] {
        let answer = ask(worker.metrics_port(), &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {path}: {answer}");
    }
    let refused = ask(worker.metrics_port(), "GET /metrics HTTP/1.1\r\nhost: evil.example\r\n\r\n").await.unwrap();
    assert!(refused.contains("metrics_hosts") && !refused.contains("redial_tasks"), "{refused}");
}

#[tokio::test]
async fn names_that_tasks_choose_do_not_make_the_metrics_large() {
    let stage = Stage::answering(|_| Reply::ok()).await;
    let worker = stage.ready_worker().await;
    assert_eq!(stage.answer(json!({"id": "a", "url": stage.url("/"), "tmeout_ms": 1})).await["status"], "ok");
    let tasks: Vec<String> = ids("t", 60)
        .iter()
        .map(|id| {
            let mut task = json!({"id": id, "url": stage.url("/")});
            for n in 0..20 {
                task[format!("{id}.{n}")] = json!(1);
                task[format!("{id}\nredial_tasks 5{n}{}", "x".repeat(5_000))] = json!(1);
            }
            task.to_string()
        })
        .collect();
    stage.queue.push_all(tasks).await;
    stage.queue.wait_results(&ids("t", 60), SOON).await;
    let metrics = worker.metrics().await;
    assert!(metrics.len() < 256 << 10, "{} bytes of metrics", metrics.len());
    assert!(metrics.matches("redial_ignored_fields_total{").count() <= 101);
    assert!(!metrics.contains("redial_tasks 5"), "a name has added a line");
    assert!(metrics.contains("field=\"tmeout_ms\"") && metrics.contains("field=\"(others)\""), "{metrics}");
}
