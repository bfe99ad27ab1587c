//! The formats of `/metrics`.

use redial_tests::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Fleet, SOON};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The head and the body of `/metrics`, for who accepts this.
async fn page(port: u16, accept: &str) -> (String, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn exemplars_with_trace_ids_are_for_those_who_accept_open_metrics() {
    let collector = redial_tests::Upstream::start(|_| redial_tests::Reply::ok()).await;
    let fleet = Fleet::new(&format!("[traces]\nendpoint = \"{}\"\n", collector.url(""))).await;
    let worker = fleet.worker().spawn();
    worker.wait_ready().await;
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    fleet.answer(fleet.task("a", "/", json!({"traceparent": traceparent}))).await;
    let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
    let open = || async {
        let (head, body) = page(worker.metrics_port(), "application/openmetrics-text;version=1.0.0,*/*;q=0.1").await;
        body.contains("redial_tasks_completed_total{").then_some((head, body))
    };
    let (head, body) = eventually(SOON, open).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    let bucket = body.lines().find(|line| line.contains(&exemplar)).unwrap_or_else(|| panic!("{body}"));
    assert!(bucket.starts_with("redial_attempt_duration_seconds_bucket{"), "{bucket}");
    assert!(body.ends_with("# EOF\n"), "{body}");

    let (head, body) = page(worker.metrics_port(), "text/plain").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(!body.contains("trace_id") && !body.contains("# EOF"), "{body}");
    assert!(body.contains("# TYPE redial_attempts_total counter\n"), "{body}");
}
