//! forget.lua: a kept answer is dropped.

use redial_core::script::memo::{Forget, Settle, SettleRequest};

use super::Desk;
use super::lead::{ASK, Ask};
use super::settle;

fn call(what: &str) -> Forget<'_> {
    Forget { key: "memo", what }
}

/// With an answer stored, good or a failure.
async fn desk(is_good: bool) -> Desk {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    let requests = [SettleRequest { is_good, ..settle::call("s1", "t1", "{}", 60_000) }];
    let _: Vec<Vec<String>> = desk.run_raw(&Settle { requests: &requests }).await;
    desk
}

#[tokio::test]
async fn an_answer_is_dropped_and_the_next_task_leads() {
    let desk = desk(true).await;
    assert!(desk.run(&call("any")).await);
    assert!(desk.dump().await.is_empty());
    desk.changes_nothing(&call("any"), false).await;
}

#[tokio::test]
async fn a_good_answer_stays_when_failures_are_dropped() {
    desk(true).await.changes_nothing(&call("failure"), false).await;
    let desk = desk(false).await;
    assert!(desk.run(&call("failure")).await);
    assert!(desk.dump().await.is_empty());
}

#[tokio::test]
async fn a_task_that_leads_goes_on() {
    let desk = desk(true).await;
    let second = Ask { serial: "s2", token: "t2", max_age: 0, ..ASK };
    second.of(&desk).await;
    assert!(desk.run(&call("any")).await);
    assert_eq!(Ask { serial: "s3", ..ASK }.of(&desk).await, "follow");
    assert_eq!(second.of(&desk).await, "lead");
    desk.changes_nothing(&call("any"), false).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    for by_hand in [["SET", "memo", "x"], ["LPUSH", "memo", "x"]] {
        let desk = Desk::new().await;
        let () = desk.ask(&by_hand).await;
        desk.refuses(&call("any")).await;
    }
}
