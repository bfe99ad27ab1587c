//! due_checks.lua: the wait lists that are due for a check, and the stored tasks whose deadline has passed.

use std::time::Duration;

use redial_core::consumer::{DueCheck, WaitList};
use redial_core::script::stored::{DueChecks, DueChecksReply};

use super::Desk;

fn call<'a>(recheck_in_ms: u64, max_checks: usize) -> DueChecks<'a> {
    DueChecks { watch: "watch", stored: "stored", recheck_in_ms, max_checks, max_bytes: 1000 }
}

async fn names(desk: &Desk, call: &DueChecks<'_>) -> Vec<String> {
    desk.run(call).await.due.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn checks_that_are_due_are_listed_and_postponed() {
    let desk = Desk::new().await;
    let later = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "watch", 1, "memo ab", 2, "s1", later, "memo cd")).await;
    let () = desk.ask(("HSET", "stored", "s1", "h\nraw")).await;
    let DueChecksReply { due, next_in } = desk.run(&call(50_000, 100)).await;
    assert_eq!(due, [("memo ab".to_owned(), Vec::new()), ("s1".to_owned(), b"h\nraw".to_vec())]);
    assert_eq!(next_in, Some(Duration::from_secs(50)));
    let again: u64 = desk.ask(("ZSCORE", "watch", "s1")).await;
    assert!(again.abs_diff(desk.now().await + 50_000) < 5_000);
    assert!(names(&desk, &call(50_000, 100)).await.is_empty());
    assert_eq!(desk.ask::<u64>(("ZCARD", "watch")).await, 3, "nothing is dropped");
}

#[tokio::test]
async fn the_next_check_is_told_as_soon_as_it_is_due_or_that_there_is_none() {
    let desk = Desk::new().await;
    assert_eq!(desk.run(&call(1, 100)).await, DueChecksReply { next_in: None, due: Vec::new() });
    let () = desk.ask(("ZADD", "watch", 1, "memo ab", 2, "memo cd", u64::MAX, "s1")).await;
    assert_eq!(desk.run(&call(50_000, 1)).await.next_in, Some(Duration::ZERO));
    let () = desk.ask(("ZREM", "watch", "memo ab", "memo cd")).await;
    let far = desk.run(&call(50_000, 1)).await.next_in.unwrap();
    assert!(far > Duration::from_secs(1 << 40), "{far:?}");
}

#[tokio::test]
async fn tasks_that_are_no_longer_stored_are_removed() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "watch", 1, "s1", 2, "s2")).await;
    let () = desk.ask(("HSET", "stored", "s2", "h\nraw")).await;
    assert_eq!(names(&desk, &call(50_000, 100)).await, ["s2"]);
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "watch", 0, -1)).await, ["s2"]);
}

#[tokio::test]
async fn no_more_checks_are_listed_than_were_asked_for() {
    let desk = Desk::new().await;
    for n in 0..30 {
        let () = desk.ask(("ZADD", "watch", n, format!("memo {n}"))).await;
    }
    assert_eq!(names(&desk, &call(50_000, 20)).await.len(), 20);
    assert_eq!(names(&desk, &call(50_000, 20)).await.len(), 10);
}

#[tokio::test]
async fn the_task_that_reaches_the_byte_limit_is_the_last_one() {
    let desk = Desk::new().await;
    for serial in ["a", "b", "c"] {
        let () = desk.ask(("ZADD", "watch", 1, serial)).await;
        let () = desk.ask(("HSET", "stored", serial, vec![b'x'; 600])).await;
    }
    assert_eq!(names(&desk, &call(50_000, 100)).await, ["a", "b"]);
    assert_eq!(names(&desk, &call(50_000, 100)).await, ["c"]);
}

#[tokio::test]
async fn a_worker_distinguishes_wait_lists_from_tasks() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "redial:{q}:watch", 1, "memo ab", 2, "w:1:1", 3, "w:1:2")).await;
    let () = desk.ask(("HSET", "redial:{q}:stored", "w:1:1", "w:1:1 5 0 0 -\nraw", "w:1:2", "unreadable")).await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    assert_eq!(consumer.heartbeat().await.unwrap().watched, 3);
    let found = consumer.due_checks(Duration::from_secs(80)).await.unwrap();
    let [DueCheck::List(list), DueCheck::Deadline(entry), DueCheck::Unreadable(token)] = found.due.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((list, entry.raw.as_slice(), token.as_str()), (&WaitList::memo("ab"), &b"raw"[..], "w:1:2"));
    assert_eq!(entry.token.as_str(), "w:1:1");
    assert_eq!(consumer.heartbeat().await.unwrap().watched, 0);
}

#[tokio::test]
async fn a_heartbeat_counts_what_is_due_before_the_next_one() {
    let desk = Desk::new().await;
    let now = desk.now().await;
    let () = desk.ask(("ZADD", "redial:{q}:watch", now + 14_000, "soon", now + 25_000, "later")).await;
    assert_eq!(desk.consumer("w", Duration::from_secs(60)).heartbeat().await.unwrap().watched, 1);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    for key in ["watch", "stored"] {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", key, "x")).await;
        desk.refuses(&call(1, 1)).await;
    }
}
