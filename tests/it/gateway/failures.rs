//! What dies while callers wait.

use std::time::Duration;

use redial_tests::{HttpAnswer, TestQueue, eventually};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{FrontDoor, SOON};

const CALLERS: usize = 50;

/// Callers that wait for the answer to their own number.
fn callers(door: &std::sync::Arc<FrontDoor>) -> JoinSet<(usize, std::io::Result<HttpAnswer>)> {
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        let door = door.clone();
        callers.spawn(async move { (n, door.gateway.try_send("GET", &format!("/u/api/echo?n={n}"), &[], b"").await) });
    }
    callers
}

async fn all_wait(door: &FrontDoor) {
    let queue = TestQueue::new(&door.redis, "default");
    eventually(SOON, || async { (queue.waiting().await == CALLERS as u64).then_some(()) }).await;
}

async fn each_has_its_own_answer(callers: JoinSet<(usize, std::io::Result<HttpAnswer>)>) {
    for (n, answer) in callers.join_all().await {
        let answer = answer.unwrap_or_else(|error| panic!("{n}: {error}"));
        assert_eq!((answer.status, &answer.json()["path"]), (200, &json!(format!("/echo?n={n}"))), "{}", answer.text());
    }
}

#[tokio::test]
async fn callers_keep_waiting_while_redis_is_killed_and_restarted() {
    let door = std::sync::Arc::new(FrontDoor::new("").await);
    let callers = callers(&door);
    all_wait(&door).await;
    door.redis.kill9();
    // Those who come meanwhile wait until Redis is back.
    let late = tokio::spawn({
        let door = door.clone();
        async move { door.gateway.send("GET", "/u/api/echo?n=late", &[], b"").await }
    });
    door.redis.restart().await;
    let _worker = door.worker();
    each_has_its_own_answer(callers).await;
    assert_eq!(late.await.unwrap().json()["path"], "/echo?n=late");
}

#[tokio::test]
async fn callers_have_their_answers_although_a_worker_is_killed() {
    let door = std::sync::Arc::new(FrontDoor::new("").await);
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        let door = door.clone();
        callers.spawn(async move {
            (n, door.gateway.try_send("GET", &format!("/u/api/echo?n={n}&delay_ms=1000"), &[], b"").await)
        });
    }
    let worker = door.worker();
    eventually(SOON, || async { (door.upstream.in_flight() == CALLERS).then_some(()) }).await;
    worker.kill9();
    let _other = door.worker();
    for (n, answer) in callers.join_all().await {
        let answer = answer.unwrap_or_else(|error| panic!("{n}: {error}"));
        assert_eq!(answer.json()["path"], json!(format!("/echo?n={n}&delay_ms=1000")), "{}", answer.text());
    }
}

#[tokio::test]
async fn after_a_kill_of_the_gateway_the_same_key_finds_the_same_task() {
    let mut door = FrontDoor::new("").await;
    let key: super::Headers = &[("idempotency-key", "order-1")];
    let mut caller = door.gateway.open("POST", "/u/api/echo", key, b"x").await.unwrap();
    let queue = TestQueue::new(&door.redis, "default");
    eventually(SOON, || async { (queue.waiting().await == 1).then_some(()) }).await;
    door.gateway.kill9();
    assert!(!matches!(caller.read(&mut [0]).await, Ok(1..)), "a caller was answered by a dead gateway");
    door.gateway.restart().await;
    let _worker = door.worker();
    let answer = door.gateway.send("POST", "/u/api/echo", key, b"x").await;
    assert_eq!((answer.status, answer.json()["body"].as_str()), (200, Some("x")), "{}", answer.text());
    assert_eq!(door.upstream.count(), 1);
}

#[tokio::test]
async fn on_sigterm_callers_are_told_where_to_go_on() {
    let mut door = FrontDoor::new("").await;
    let queue = TestQueue::new(&door.redis, "default");
    let key: super::Headers = &[("idempotency-key", "order-1")];
    let requests =
        [door.gateway.open("GET", "/u/api/echo", &[], b""), door.gateway.open("GET", "/u/api/echo", key, b"")];
    let mut waiting = Vec::new();
    for request in requests {
        waiting.push(request.await.unwrap());
    }
    eventually(SOON, || async { (queue.waiting().await == 2).then_some(()) }).await;
    let started = Instant::now();
    door.gateway.term();
    let mut told = Vec::new();
    for mut caller in waiting {
        let mut text = String::new();
        caller.read_to_string(&mut text).await.unwrap();
        told.push(text.to_lowercase());
    }
    let status = door.gateway.wait_exit(Duration::from_secs(20)).await;
    assert!(status.success() && started.elapsed() < Duration::from_secs(15), "{status} {:?}", started.elapsed());
    // An SDK may send the one with a key again: that makes no second task.
    for (text, should_retry) in told.iter().zip(["false", "true"]) {
        assert!(text.starts_with("http/1.1 503") && text.contains("retry-after: 1"), "{text}");
        assert!(text.contains(&format!("x-should-retry: {should_retry}")), "{text}");
    }
    let location = told[0].lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
    door.gateway.restart().await;
    let _worker = door.worker();
    let result = door.gateway.send("GET", &format!("{location}?wait=20"), &[], b"").await;
    assert_eq!((result.status, &result.json()["status"]), (200, &json!("ok")), "{}", result.text());
}
