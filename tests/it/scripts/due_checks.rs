//! due_checks.lua: the wait lists and parked tasks that are due for a check.

use std::time::Duration;

use redial_core::consumer::{DueCheck, WaitList};
use redial_core::script::task::DueChecks;

use super::Desk;

fn call<'a>(recheck_in_ms: u64, max_checks: usize) -> DueChecks<'a> {
    DueChecks { watch: "watch", recheck_in_ms, max_checks }
}

#[tokio::test]
async fn checks_that_are_due_are_listed_and_postponed() {
    let desk = Desk::new().await;
    let later = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "watch", 1, "memo ab", 2, "memo ab s1", later, "memo cd")).await;
    assert_eq!(desk.run(&call(50_000, 100)).await, ["memo ab", "memo ab s1"]);
    let again: u64 = desk.ask(("ZSCORE", "watch", "memo ab")).await;
    assert!(again.abs_diff(desk.now().await + 50_000) < 5_000);
    desk.changes_nothing(&call(50_000, 100), Vec::<String>::new()).await;
    assert_eq!(desk.ask::<u64>(("ZCARD", "watch")).await, 3, "nothing is dropped");
}

#[tokio::test]
async fn no_more_checks_are_listed_than_were_asked_for() {
    let desk = Desk::new().await;
    for n in 0..30 {
        let () = desk.ask(("ZADD", "watch", n, format!("memo {n}"))).await;
    }
    assert_eq!(desk.run(&call(50_000, 20)).await.len(), 20);
    assert_eq!(desk.run(&call(50_000, 20)).await.len(), 10);
}

#[tokio::test]
async fn a_worker_distinguishes_wait_lists_from_the_tasks_in_them() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "redial:{q}:watch", 1, "memo ab", 2, "memo cd w:1:1")).await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    assert_eq!(consumer.heartbeat().await.unwrap().watched, 2);
    let found = consumer.due_checks(Duration::from_secs(8)).await.unwrap();
    let serial = found[1].task.as_ref().map(|token| token.as_str());
    assert_eq!((found[1].list.clone(), serial), (WaitList::memo("cd"), Some("w:1:1")));
    assert_eq!(found[0], DueCheck { list: WaitList::memo("ab"), task: None });
    assert_eq!(consumer.heartbeat().await.unwrap().watched, 0);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "watch", "x")).await;
    desk.refuses(&call(1, 1)).await;
}
