//! forget.lua: a kept answer is dropped.

use redial_core::script::{FORGET, Invocation, SETTLE};

use super::Desk;
use super::lead::{ASK, Ask};

fn call(what: &str) -> Invocation {
    FORGET.call().key("memo").arg(what)
}

/// With an answer kept, good (1) or a failure (0).
async fn desk(good: u8) -> Desk {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    let settle = SETTLE.call().key("memo").arg("s1").arg("t1").arg("{}").arg(60_000).arg(good);
    let _: Vec<String> = desk.run(&settle).await;
    desk
}

#[tokio::test]
async fn an_answer_is_dropped_and_the_next_one_leads() {
    let desk = desk(1).await;
    assert_eq!(desk.run::<u8>(&call("any")).await, 1);
    assert!(desk.dump().await.is_empty());
    desk.changes_nothing(&call("any"), 0).await;
}

#[tokio::test]
async fn a_good_answer_stays_where_failures_are_to_be_dropped() {
    desk(1).await.changes_nothing(&call("failure"), 0).await;
    let desk = desk(0).await;
    assert_eq!(desk.run::<u8>(&call("failure")).await, 1);
    assert!(desk.dump().await.is_empty());
}

#[tokio::test]
async fn a_task_that_leads_goes_on() {
    let desk = desk(1).await;
    let second = Ask { serial: "s2", token: "t2", max_age: 0, ..ASK };
    second.of(&desk).await;
    assert_eq!(desk.run::<u8>(&call("any")).await, 1);
    assert_eq!(Ask { serial: "s3", ..ASK }.of(&desk).await, "follow");
    assert_eq!(second.of(&desk).await, "lead");
    desk.changes_nothing(&call("any"), 0).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "memo", "x")).await;
    desk.refuses(&call("any")).await;
}
