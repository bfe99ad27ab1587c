//! What happens to tasks, as server-sent events.

use std::time::Duration;

use redial_tests::Reply;
use serde_json::{Value, json};

use super::{FrontDoor, Headers, read_until, token_block};

/// The names of the events of a text, in order.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

#[tokio::test]
async fn the_events_of_a_task_are_sent_until_it_is_done() {
    let upstream = redial_tests::Upstream::start(|request| match request.nth {
        0 => Reply::status(503),
        _ => Reply::ok().json(&json!({"ok": true})),
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let mut task = door.task("/x");
    task["id"] = json!("a");
    assert_eq!(door.gateway.send("POST", "/v1/tasks", &[], task.to_string().as_bytes()).await.status, 202);
    let mut socket = door.gateway.open("GET", "/v1/tasks/a/events", &[], b"").await.unwrap();
    read_until(&mut socket, "event: queued").await;
    let _worker = door.worker();
    let told = read_until(&mut socket, "event: done").await;
    assert_eq!(names(&told), ["started", "attempt_failed", "waiting", "started", "done"], "{told}");
    let again = door.gateway.send("GET", "/v1/tasks/a/events", &[], b"").await;
    assert_eq!((again.status, again.header("content-type")), (200, "text/event-stream"));
    assert_eq!(names(&again.text()).last(), Some(&"done"));
    let failed = again.text().lines().find_map(|line| {
        let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
        (event["event"] == "attempt_failed").then_some(event)
    });
    assert_eq!(failed.map(|event| event["http_status"].clone()), Some(json!(503)));
    assert_eq!(door.gateway.send("GET", "/v1/tasks/unknown/events", &[], b"").await.status, 404);
}

#[tokio::test]
async fn a_reader_of_a_queue_goes_on_where_it_was() {
    let door = FrontDoor::new("").await;
    let _worker = door.worker();
    let call = async |id: &str| {
        let mut task = door.task("/ok");
        task["id"] = json!(id);
        let answer = door.gateway.send("POST", "/v1/tasks?wait=30", &[], task.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let path = "/v1/queues/default/events";
    call("before").await;
    let mut socket = door.gateway.open("GET", &format!("{path}?since=3600"), &[], b"").await.unwrap();
    read_until(&mut socket, "\"task\":\"before\",\"event\":\"done\"").await;
    call("first").await;
    let told = read_until(&mut socket, "\"task\":\"first\",\"event\":\"done\"").await;
    let mut id = told.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    drop(socket);
    call("second").await;
    // Whoever has seen the end of `first` is not sent it again, and sees all of what came since.
    let mut socket = door.gateway.open("GET", path, &[("last-event-id", &id)], b"").await.unwrap();
    let told = read_until(&mut socket, "\"task\":\"second\",\"event\":\"done\"").await;
    assert!(!told.contains("\"task\":\"first\"") && !told.contains("\"task\":\"before\""), "{told}");
    drop(socket);
    // Without an id: from now on.
    let mut socket = door.gateway.open("GET", path, &[], b"").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    call("third").await;
    let told = read_until(&mut socket, "\"task\":\"third\",\"event\":\"done\"").await;
    assert!(!told.contains("\"task\":\"second\""), "{told}");
    id.push('x');
    for (path, headers) in [
        (path, &[("last-event-id", id.as_str())][..]),
        (&format!("{path}?since=soon"), &[]),
        (&format!("{path}?from=1"), &[]),
    ] {
        assert_eq!(door.gateway.send("GET", path, headers, b"").await.status, 400, "{path} {headers:?}");
    }
}

#[tokio::test]
async fn a_tenant_sees_the_events_of_its_own_tasks_and_queues_only() {
    let block = |name: &str| token_block(name, &format!("tenant = \"{name}\"\nqueues = [\"default\"]"));
    let door = FrontDoor::new(&[block("acme"), block("other")].concat()).await;
    let (acme, other): (Headers, Headers) =
        (&[("authorization", "Bearer token-of-acme")], &[("authorization", "Bearer token-of-other")]);
    let _worker = door.worker();
    for (headers, id) in [(other, "other.1"), (acme, "acme.1")] {
        let mut task = door.task("/ok");
        task["id"] = json!(id);
        let answer = door.gateway.send("POST", "/v1/tasks?wait=30", headers, task.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut socket = door.gateway.open("GET", "/v1/queues/default/events?since=3600", acme, b"").await.unwrap();
    let told = read_until(&mut socket, "\"task\":\"acme.1\",\"event\":\"done\"").await;
    assert!(!told.contains("other.1"), "{told}");
    for (path, headers, status) in [
        ("/v1/tasks/other.1/events", acme, 404),
        ("/v1/queues/secret/events", acme, 403),
        ("/v1/queues/default/events", &[], 401),
    ] {
        assert_eq!(door.gateway.send("GET", path, headers, b"").await.status, status, "{path}");
    }
}
