//! How many can wait.

use redial_tests::{TestQueue, eventually};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::{FrontDoor, SOON};

const CALLERS: usize = 2_000;
/// Of the gateway: one for commands, one that waits for results, and one to spare.
const MAX_CONNECTIONS: usize = 3;

/// Lets this process open as many sockets as that takes.
fn raise_descriptor_limit() {
    let pid = format!("--pid={}", std::process::id());
    let set = std::process::Command::new("prlimit").args([&pid, "--nofile=8192:"]).status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit is part of util-linux");
}

#[tokio::test]
async fn two_thousand_callers_wait_on_a_handful_of_connections_and_each_gets_its_own_answer() {
    raise_descriptor_limit();
    let door = FrontDoor::new("").await;
    let mut callers = Vec::new();
    for n in 0..CALLERS {
        callers.push(door.gateway.open("GET", &format!("/u/api/echo?n={n}"), &[], b"").await.unwrap());
    }
    let queue = TestQueue::new(&door.redis, "default");
    eventually(SOON, || async { (queue.waiting().await == CALLERS as u64).then_some(()) }).await;
    let own = queue_connections(&door).await;
    assert!(own <= MAX_CONNECTIONS, "{own} connections");
    let _worker = door.worker();
    for (n, mut caller) in callers.into_iter().enumerate() {
        let mut text = String::new();
        caller.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(&format!("\"/echo?n={n}\"")), "{n}: {text}");
    }
}

/// The connections to Redis but those of this test: of its queue, and of the command that asks.
async fn queue_connections(door: &FrontDoor) -> usize {
    door.redis.cli(&["CLIENT", "LIST"]).await.lines().count().saturating_sub(2)
}

#[tokio::test]
async fn callers_that_wait_take_no_memory_for_their_bodies() {
    const BODY: usize = 1_000_000;
    const CALLERS: u64 = 100;
    let door = FrontDoor::new("").await;
    let (queue, body) = (TestQueue::new(&door.redis, "default"), vec![b'x'; BODY]);
    let mut callers = Vec::new();
    for nth in 1..=CALLERS {
        callers.push(door.gateway.open("POST", "/u/api/echo", &[], &body).await.unwrap());
        eventually(SOON, || async { (queue.waiting().await == nth).then_some(()) }).await;
    }
    let bytes = door.gateway.rss_bytes();
    assert!(bytes < CALLERS * BODY as u64 * 7 / 10, "{} MiB for {} callers", bytes >> 20, callers.len());
}

#[tokio::test]
async fn who_finds_no_place_is_told_to_come_back_and_a_place_that_is_left_is_free() {
    let door = FrontDoor::new("[gateway]\nmax_waiting = 2\n").await;
    let queue = TestQueue::new(&door.redis, "default");
    let first = door.gateway.open("GET", "/u/api/ok", &[], b"").await.unwrap();
    let _second = door.gateway.open("GET", "/u/api/ok", &[], b"").await.unwrap();
    eventually(SOON, || async { (queue.waiting().await == 2).then_some(()) }).await;
    let refused = door.gateway.send("GET", "/u/api/ok", &[], b"").await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("too_many_waiting")), "{}", refused.text());
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(queue.waiting().await, 2, "what was refused is on the queue");
    drop(first);
    let placed = || async {
        let _caller = door.gateway.open("GET", "/u/api/ok", &[], b"").await.unwrap();
        let third = || async { (queue.waiting().await >= 3).then_some(()) };
        redial_tests::wait::within(std::time::Duration::from_millis(300), third).await
    };
    eventually(SOON, placed).await;
}
