//! `/v1/tasks`.

use std::time::Duration;

use redial_tests::{TestQueue, eventually};
use serde_json::json;

use super::{FrontDoor, SOON};

#[tokio::test]
async fn a_task_is_enqueued_with_a_location_and_its_result_is_there() {
    let door = FrontDoor::new("").await;
    let task = door.task("/echo").to_string();
    let accepted = door.gateway.send("POST", "/v1/tasks", &[], task.as_bytes()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let (id, location) = (accepted.json()["id"].as_str().unwrap().to_owned(), accepted.header("location").to_owned());
    assert_eq!(location, format!("/v1/tasks/{id}"));
    assert_eq!(accepted.header("redial-id"), id);

    let waiting = door.gateway.send("GET", &location, &[], b"").await;
    assert_eq!((waiting.status, &waiting.json()["state"]), (202, &json!("waiting")), "no worker runs yet");
    let _worker = door.worker();
    let result = door.gateway.send("GET", &format!("{location}?wait=20"), &[], b"").await;
    assert_eq!((result.status, &result.json()["status"]), (200, &json!("ok")), "{}", result.text());
    let stored = TestQueue::new(&door.redis, "default").result(&id).await;
    assert_eq!(Some(result.json()), stored);
}

#[tokio::test]
async fn a_post_waits_as_long_as_it_says_and_then_says_where_to_look() {
    let door = FrontDoor::new("").await;
    let task = door.task("/ok").to_string();
    for (path, headers) in [("/v1/tasks?wait=0.3", vec![]), ("/v1/tasks", vec![("prefer", "wait=0.3")])] {
        let answer = door.gateway.send("POST", path, &headers, task.as_bytes()).await;
        assert_eq!(answer.status, 202, "no worker runs: {}", answer.text());
        assert!(answer.header("location").starts_with("/v1/tasks/"), "{answer:?}");
    }
    let _worker = door.worker();
    for (path, headers) in [("/v1/tasks?wait=20", vec![]), ("/v1/tasks", vec![("prefer", "wait=20")])] {
        let answer = door.gateway.send("POST", path, &headers, task.as_bytes()).await;
        assert_eq!((answer.status, answer.json()["http_status"].as_u64()), (200, Some(200)), "{}", answer.text());
    }
    // A call that failed for good has a result too.
    let task = door.task("/status/404").to_string();
    let dead = door.gateway.send("POST", "/v1/tasks?wait=20", &[], task.as_bytes()).await;
    assert_eq!((dead.status, &dead.json()["reason"]), (200, &json!("rejected")));
}

#[tokio::test]
async fn an_array_and_lines_of_tasks_are_answered_in_their_order() {
    let door = FrontDoor::new("").await;
    let _worker = door.worker();
    let tasks: Vec<_> = (0..50).map(|n| door.task(&format!("/echo?n={n}&delay_ms={}", 50 - n))).collect();
    let lines = tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let ndjson = [("content-type", "application/x-ndjson")];
    for (headers, body) in [(&[][..], json!(tasks).to_string()), (&ndjson[..], lines)] {
        let answer = door.gateway.send("POST", "/v1/tasks?wait=20", headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let results = answer.json();
        let results = results.as_array().unwrap();
        assert_eq!(results.len(), 50);
        for (n, result) in results.iter().enumerate() {
            let path = result["body"]["path"].as_str().unwrap();
            assert!(path.starts_with(&format!("/echo?n={n}&")), "{n}: {path}");
        }
    }
    let answer = door.gateway.send("POST", "/v1/tasks", &[], json!(tasks).to_string().as_bytes()).await;
    assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (202, Some(50)));
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_task() {
    let door = FrontDoor::new("").await;
    let queue = TestQueue::new(&door.redis, "default");
    let key = [("idempotency-key", "order-17")];
    let task = door.task("/echo").to_string();
    let first = door.gateway.send("POST", "/v1/tasks", &key, task.as_bytes()).await;
    let second = door.gateway.send("POST", "/v1/tasks", &key, task.as_bytes()).await;
    assert_eq!((first.status, second.status), (202, 202), "{}", second.text());
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(queue.waiting().await, 1, "a request that was sent again enqueued again");

    let other = door.gateway.send("POST", "/v1/tasks", &key, door.task("/ok").to_string().as_bytes()).await;
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_mismatch")), "{}", other.text());

    let _worker = door.worker();
    for _ in 0..2 {
        let answer = door.gateway.send("POST", "/v1/tasks?wait=20", &key, task.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body"]["headers"]["idempotency-key"], "order-17");
    }
    assert_eq!(door.upstream.count(), 1);
}

#[tokio::test]
async fn an_invalid_request_is_refused_with_the_field_and_enqueues_nothing() {
    let door = FrontDoor::new("").await;
    let key = "k".repeat(300);
    for (path, headers, body, status, says) in [
        ("/v1/tasks", &[][..], r#"{"url":"nowhere"}"#, 400, "`url`"),
        ("/v1/tasks", &[][..], r#"{"url":"http://h/","method":"FETCH"}"#, 400, "`method`"),
        ("/v1/tasks", &[][..], r#"[{"url":"http://h/"},{"url":5}]"#, 400, "task 2: "),
        ("/v1/tasks", &[][..], "{", 400, "not JSON"),
        ("/v1/tasks?wiat=3", &[][..], r#"{"url":"http://h/"}"#, 400, "wiat"),
        ("/v1/tasks?queue=%7B", &[][..], r#"{"url":"http://h/"}"#, 400, "queue name"),
        ("/v1/tasks", &[("idempotency-key", key.as_str())][..], r#"{"url":"http://h/"}"#, 400, "Idempotency-Key"),
        ("/v1/tasks", &[][..], "[]", 400, "no tasks"),
        ("/v1/nothing", &[][..], "", 404, "nothing at"),
        ("/u/other/x", &[][..], "", 404, "\"other\""),
        ("/u/api/ok", &[("redial-cache-ttl-ms", "soon")][..], "", 400, "redial-cache-ttl-ms"),
        ("/u/api/ok", &[("redial-ttl", "5")][..], "", 400, "redial-ttl is unknown"),
        ("/u/api/ok", &[("redial-async", "yes")][..], "", 400, "redial-async"),
    ] {
        let answer = door.gateway.send("POST", path, headers, body.as_bytes()).await;
        let problem = answer.json();
        assert_eq!(answer.status, status, "{path} {body}: {problem}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path} {body}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{path} {body}: {problem}");
        assert_eq!((&problem["status"], &problem["error"]["message"]), (&json!(status), &problem["detail"]), "{path}");
    }
    let large = vec![b'x'; 2 << 20];
    let answer = door.gateway.send("POST", "/u/api/echo", &[], &large).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    let answer = door.gateway.send("PUT", "/v1/tasks", &[], b"").await;
    assert_eq!(answer.status, 405, "{}", answer.text());
    assert_eq!(TestQueue::new(&door.redis, "default").waiting().await, 0);
}

#[tokio::test]
async fn a_task_is_cancelled_and_an_unknown_one_is_not_found() {
    let door = FrontDoor::new("").await;
    let accepted =
        door.gateway.send("POST", "/v1/tasks?queue=slow", &[], door.task("/ok").to_string().as_bytes()).await;
    let location = accepted.header("location").to_owned();
    assert!(location.ends_with("?queue=slow"), "{location}");
    let cancelled = door.gateway.send("DELETE", &location, &[], b"").await;
    assert_eq!((cancelled.status, &cancelled.json()["was"]), (200, &json!("waiting")), "{}", cancelled.text());
    let result = door.gateway.send("GET", &location, &[], b"").await;
    assert_eq!((result.status, &result.json()["reason"]), (200, &json!("cancelled")), "{}", result.text());
    let again = door.gateway.send("DELETE", &location, &[], b"").await;
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("already_ended")), "{}", again.text());
    for method in ["GET", "DELETE"] {
        let unknown = door.gateway.send(method, "/v1/tasks/none", &[], b"").await;
        assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unknown_task")), "{}", unknown.text());
    }
}

#[tokio::test]
async fn states_tell_where_a_task_is() {
    let door = FrontDoor::new("").await;
    let _worker = door.worker();
    let mut later = door.task("/ok");
    later["delay_ms"] = json!(60_000);
    for (task, state) in [(later, "scheduled"), (door.task("/slow/20000"), "active")] {
        let accepted = door.gateway.send("POST", "/v1/tasks", &[], task.to_string().as_bytes()).await;
        let location = accepted.header("location").to_owned();
        let is_there = || async {
            let answer = door.gateway.send("GET", &location, &[], b"").await;
            (answer.status == 202 && answer.json()["state"] == state).then_some(())
        };
        eventually(SOON, is_there).await;
    }
}

#[tokio::test]
async fn metrics_health_and_the_openapi_document_are_served() {
    let door = FrontDoor::new("").await;
    assert_eq!(door.gateway.send("GET", "/healthz", &[], b"").await.status, 200);
    let page = door.gateway.send("GET", "/openapi.json", &[], b"").await.json();
    assert_eq!(page["openapi"], "3.1.0");
    assert!(page["components"]["schemas"]["Task"]["properties"]["cache_ttl_ms"].is_object(), "{page}");
    let waiting = door.gateway.open("GET", "/v1/tasks/none?wait=30", &[], b"").await.unwrap();
    let has = |line: &'static str| {
        let gateway = &door.gateway;
        move || async move {
            let page = gateway.send("GET", "/metrics", &[], b"").await.text();
            page.lines().any(|found| found == line).then_some(())
        }
    };
    eventually(SOON, has("redial_gateway_waiting 1")).await;
    drop(waiting);
    eventually(SOON, has("redial_gateway_waiting 0")).await;
    door.redis.kill9();
    let ready = door.gateway.send("GET", "/readyz", &[], b"").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let started = tokio::time::Instant::now();
    let refused = door.gateway.send("POST", "/v1/tasks", &[], door.task("/ok").to_string().as_bytes()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
