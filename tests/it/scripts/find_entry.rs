//! find_entry.lua: the search for a task in a hash.

use std::collections::BTreeSet;

use redial_core::UnixMs;
use redial_core::script::stored::FindEntry;

use super::{Desk, entry};

fn call<'a>(json_id: &'a str, cursor: &'a str, max_bytes: usize) -> FindEntry<'a> {
    FindEntry { held: "held", json_id, first_seen_ms: None, cursor, max_tasks: 100, max_bytes }
}

/// The tokens of the candidates, and how many tasks were searched, over all calls.
async fn search(desk: &Desk, json_id: &str, max_bytes: usize) -> (BTreeSet<String>, usize, usize) {
    let (mut found, mut tasks, mut calls, mut cursor) = (BTreeSet::new(), 0, 0, "0".to_owned());
    loop {
        let reply = desk.run(&call(json_id, &cursor, max_bytes)).await;
        found.extend(reply.candidates.into_iter().map(|(token, _)| token.as_str().to_owned()));
        (tasks, calls, cursor) = (tasks + reply.tasks, calls + 1, reply.cursor);
        if cursor == "0" {
            return (found, tasks, calls);
        }
    }
}

#[tokio::test]
async fn every_task_is_searched_over_many_calls() {
    let desk = Desk::new().await;
    for n in 0..300 {
        let serial = format!("s{n}");
        let raw = format!("{{\"id\":\"task {n}\",\"x\":\"{}\"}}", "x".repeat(100));
        desk.ask::<()>(("HSET", "held", &serial, entry(&serial, 0, false, raw.as_bytes()))).await;
    }
    let (found, tasks, calls) = search(&desk, "\"task 77\"", 4_000).await;
    assert_eq!(found, BTreeSet::from(["s77".to_owned()]));
    assert!(tasks >= 300 && calls > 5, "{tasks} in {calls} calls");
    assert!(search(&desk, "\"task 300\"", 4_000).await.0.is_empty());
}

#[tokio::test]
async fn large_tasks_are_searched_one_at_a_time() {
    let desk = Desk::new().await;
    for n in 0..40 {
        desk.ask::<()>(("HSET", "held", n, vec![b'x'; 100_000])).await;
    }
    // A slot of the hash may have two or three.
    let reply = desk.run(&call("\"a\"", "0", 200_000)).await;
    assert!(reply.tasks <= 6, "{reply:?}");
}

#[tokio::test]
async fn a_derived_id_is_recognized_by_the_time_in_it() {
    let desk = Desk::new().await;
    desk.ask::<()>(("HSET", "held", "a", "a 1000 0 0 -\n{}", "b", "b 2000 0 0 -\n1000")).await;
    let reply = desk.run(&FindEntry { first_seen_ms: Some(UnixMs(1000)), ..call("\"x\"", "0", 1000) }).await;
    assert_eq!(reply.candidates.len(), 1);
    assert_eq!(reply.candidates[0].0.as_str(), "a");
}

#[tokio::test]
async fn an_id_that_is_spelled_with_escapes_is_a_candidate() {
    let desk = Desk::new().await;
    desk.ask::<()>(("HSET", "held", "a", "a 1 0 0 -\n{\"id\":\"x\\/y\"}", "b", "b 1 0 0 -\n{\"id\":\"plain\"}")).await;
    let reply = desk.run(&call("\"x/y\"", "0", 1000)).await;
    assert_eq!(reply.candidates.len(), 1);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "held", "x")).await;
    desk.refuses(&call("\"a\"", "0", 1000)).await;
}
