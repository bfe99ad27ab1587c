//! `/u/{upstream}/{path}`.

use std::time::Duration;

use redial_tests::{Reply, TestQueue, Upstream, eventually};
use serde_json::{Value, json};

use super::{FrontDoor, Headers, SOON};

#[tokio::test]
async fn a_request_reaches_the_upstream_as_it_is_and_the_response_comes_back_as_it_is() {
    let upstream = Upstream::start(|request| {
        let seen = json!({
            "method": request.method.as_str(), "path": request.path,
            "body": String::from_utf8_lossy(&request.body),
            "headers": request.headers.iter().map(|(name, value)| (name.to_lowercase(), json!(value)))
                .collect::<serde_json::Map<String, Value>>(),
        });
        Reply::status(201).header("x-answer", "42").header("x-should-retry", "true").json(&seen)
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    let body = "{ \"n\": 9007199254740993, \"t\": \"\u{00fc}\" }";
    let headers: Headers = &[
        ("content-type", "application/json"),
        ("authorization", "Bearer mine"),
        ("x-custom", "a"),
        ("accept-encoding", "gzip"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
    ];
    let answer = door.gateway.send("POST", "/u/api/v1/things%2Fx/?q=a%20b&q=2", headers, body.as_bytes()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let seen = answer.json();
    assert_eq!((&seen["method"], &seen["path"]), (&json!("POST"), &json!("/v1/things%2Fx/?q=a%20b&q=2")));
    assert_eq!(seen["body"], body);
    assert_eq!((&seen["headers"]["authorization"], &seen["headers"]["x-custom"]), (&json!("Bearer mine"), &json!("a")));
    assert!(seen["headers"]["x-hop"].is_null(), "{seen}");
    assert_eq!((answer.header("x-answer"), answer.header("content-type")), ("42", "application/json"));
    assert_eq!((answer.header("redial-attempts"), answer.header("redial-source")), ("1", "call"));
    let stored = TestQueue::new(&door.redis, "default").result(answer.header("redial-id")).await;
    assert!(stored.is_some(), "the result has the id of the header");

    for (method, body) in [("GET", &b""[..]), ("DELETE", b""), ("PATCH", b"text"), ("PUT", &[0, 159, 146, 150])] {
        let answer = door.gateway.send(method, "/u/api/x", &[], body).await;
        assert_eq!((answer.status, answer.json()["method"].as_str()), (201, Some(method)), "{}", answer.text());
        assert_eq!(answer.json()["body"], String::from_utf8_lossy(body).into_owned());
    }
}

#[tokio::test]
async fn binary_and_event_streams_come_back_byte_for_byte() {
    let events = "event: a\ndata: {\"n\":1}\n\ndata: [DONE]\n\n";
    let upstream = Upstream::start(move |request| match request.route() {
        "/binary" => Reply::ok().header("content-type", "application/octet-stream").body(vec![0, 159, 146, 150, 10]),
        _ => Reply::ok().header("content-type", "text/event-stream").body(events),
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    let answer = door.gateway.send("GET", "/u/api/binary", &[], b"").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &[0, 159, 146, 150, 10][..]));
    let json = [("content-type", "application/json")];
    let answer = door.gateway.send("POST", "/u/api/chat", &json, br#"{"stream":true}"#).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, events));
    assert_eq!(answer.header("content-type"), "text/event-stream");
}

#[tokio::test]
async fn failures_are_retried_by_redial_and_come_back_as_the_upstreams_own_or_as_problems() {
    let door = FrontDoor::new("retry = { max_attempts = 3, base_ms = 20 }\n").await;
    let _worker = door.worker();
    let send = |path: &'static str, headers: Headers<'static>| door.gateway.send("GET", path, headers, b"");
    let answer = send("/u/api/flaky/2/503?key=a", &[]).await;
    assert_eq!((answer.status, answer.header("redial-attempts")), (200, "3"), "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), "");
    for (path, headers, status, code) in [
        ("/u/api/status/404", &[][..], 404, Value::Null),
        ("/u/api/status/503", &[][..], 503, Value::Null),
        ("/u/api/reset", &[][..], 504, json!("attempts_exhausted")),
        ("/u/api/slow/9000", &[("redial-timeout-ms", "50")][..], 504, json!("attempts_exhausted")),
        ("/u/api/status/500", &[("redial-ttl-ms", "0")][..], 504, json!("expired")),
    ] {
        let answer = send(path, headers).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code), "{path}: {}", answer.text());
        assert_eq!(answer.header("x-should-retry"), "false", "{path}");
        if code.is_null() {
            assert_eq!(answer.json()["status"], status, "{path}: not the upstream's body");
        } else {
            assert!(answer.header("location").starts_with("/v1/tasks/"), "{path}");
        }
    }
}

#[tokio::test]
async fn headers_set_queue_cache_key_and_limit() {
    let door = FrontDoor::new("[[limit]]\nname = \"narrow\"\nrate = 1\nper_ms = 3600000\n").await;
    let worker = door.worker();
    let cached: Headers = &[("redial-cache-ttl-ms", "60000")];
    for source in ["call", "cache"] {
        let answer = door.gateway.send("GET", "/u/api/ok?cached", cached, b"").await;
        assert_eq!((answer.status, answer.header("redial-source")), (200, source), "{}", answer.text());
    }
    for header in ["idempotency-key", "redial-idempotency-key"] {
        let once: Headers = &[(header, header)];
        for _ in 0..2 {
            let answer = door.gateway.send("POST", &format!("/u/api/echo?{header}"), once, b"x").await;
            assert_eq!(answer.json()["headers"]["idempotency-key"], header, "{}", answer.text());
        }
        let calls =
            door.upstream.calls_to("/echo").into_iter().filter(|call| call.path.contains(&format!("?{header}")));
        assert_eq!(calls.count(), 1, "{header}");
        // Another call with this key.
        let other = door.gateway.send("POST", &format!("/u/api/echo?{header}"), once, b"y").await;
        assert_eq!(other.status, 422, "{}", other.text());
    }
    let limited: Headers = &[("redial-limit", "narrow"), ("redial-async", "true")];
    for _ in 0..2 {
        assert_eq!(door.gateway.send("GET", "/u/api/ok?limited", limited, b"").await.status, 202);
    }
    let parked = || async {
        let counts = door.redis.cli(&["HLEN", "redial:{default}:stored"]).await;
        (counts == "1").then_some(())
    };
    eventually(SOON, parked).await;
    drop(worker);
    let elsewhere: Headers = &[("redial-queue", "other"), ("redial-async", "true")];
    let accepted = door.gateway.send("GET", "/u/api/ok", elsewhere, b"").await;
    assert_eq!((accepted.status, &accepted.json()["queue"]), (202, &json!("other")), "{}", accepted.text());
    assert_eq!(TestQueue::new(&door.redis, "other").waiting().await, 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_task_or_cancels_it() {
    let door = FrontDoor::new("").await;
    let queue = TestQueue::new(&door.redis, "default");
    let goes = |value: &'static str| {
        let door = &door;
        async move {
            let headers: Headers = &[("redial-on-disconnect", value)];
            door.gateway.open("GET", "/u/api/ok", headers, b"").await.unwrap()
        }
    };
    let (stays, cancels) = (goes("continue").await, goes("cancel").await);
    eventually(SOON, || async { (queue.waiting().await == 2).then_some(()) }).await;
    drop((stays, cancels));
    eventually(SOON, || async { (queue.dead().await.len() == 1).then_some(()) }).await;
    // Time for the other one to be cancelled as well, if it were.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((queue.waiting().await, queue.dead().await.len()), (1, 1));
    assert_eq!(queue.dead().await[0].header["reason"], "cancelled");
}

#[tokio::test]
async fn the_workers_credentials_replace_the_callers_which_do_not_enter_redis() {
    let upstream = Upstream::unruly().await;
    let block = format!(
        "[[upstream]]\nurl = \"{}\"\nname = \"keyed\"\nheaders = {{ Authorization = \"Bearer of-the-worker\" }}\n",
        upstream.url("/echo/")
    );
    let door = FrontDoor::before(upstream, &block).await;
    let own: Headers = &[("authorization", "Bearer geheim"), ("x-api-key", "geheim"), ("redial-async", "true")];
    assert_eq!(door.gateway.send("GET", "/u/keyed/", own, b"").await.status, 202);
    assert!(!door.redis.cli(&["LRANGE", "redial:{default}", "0", "-1"]).await.contains("geheim"));
    // Where the settings have no credentials, the caller's are what the upstream gets.
    assert_eq!(door.gateway.send("GET", "/u/api/x", own, b"").await.status, 202);
    assert!(door.redis.cli(&["LRANGE", "redial:{default}", "0", "-1"]).await.contains("geheim"));
}
