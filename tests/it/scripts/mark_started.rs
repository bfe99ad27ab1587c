//! mark_started.lua: the record of a call that is about to be sent.

use redial_core::script::task::{MarkStarted, StartedTask};

use super::{AWKWARD, Desk, entry, hash};

fn tasks<const N: usize>(tokens: [&str; N]) -> [StartedTask; N] {
    tokens.map(|token| StartedTask { token: token.into(), header: "s:1:1 1000 0 1 {\"n\":1}".into() })
}

fn call(tasks: &[StartedTask]) -> MarkStarted<'_> {
    MarkStarted { active: "active", tasks }
}

#[tokio::test]
async fn the_header_is_replaced_and_the_bytes_stay() {
    let desk = Desk::new().await;
    for raw in AWKWARD {
        desk.hold("t", &entry("s:1:1", 0, false, raw)).await;
        desk.hold("other", b"o\nx").await;
        assert_eq!(desk.run(&call(&tasks(["t"]))).await, [true]);
        let started = [b"s:1:1 1000 0 1 {\"n\":1}\n", raw].concat();
        let held = hash(&[("t", started.as_slice()), ("other", b"o\nx")]);
        assert_eq!(desk.dump().await["active"], (held, false));
        // Sent twice, it answers alike and changes nothing.
        desk.changes_nothing(&call(&tasks(["t"])), vec![true]).await;
    }
}

#[tokio::test]
async fn a_worker_that_lost_the_task_may_not_start_a_call() {
    let desk = Desk::new().await;
    desk.changes_nothing(&call(&tasks(["t"])), vec![false]).await;
    desk.hold("other", b"o\nx").await;
    desk.changes_nothing(&call(&tasks(["t"])), vec![false]).await;
}

#[tokio::test]
async fn several_calls_are_marked_at_once_and_a_lost_one_stops_no_other() {
    let desk = Desk::new().await;
    for token in ["a", "c"] {
        desk.hold(token, &entry("s:1:1", 0, false, b"raw")).await;
    }
    let tasks = tasks(["a", "b", "c", "a"]);
    assert_eq!(desk.run(&call(&tasks)).await, [true, false, true, true]);
    let started = "s:1:1 1000 0 1 {\"n\":1}\nraw";
    assert_eq!(desk.dump().await["active"].0, hash(&[("a", started), ("c", started)]));
    desk.changes_nothing(&call(&tasks), vec![true, false, true, true]).await;
}

#[tokio::test]
async fn a_value_that_is_not_an_entry_keeps_all_its_bytes() {
    let desk = Desk::new().await;
    desk.hold("t", b"no header").await;
    assert_eq!(desk.run(&call(&tasks(["t"]))).await, [true]);
    let started = "s:1:1 1000 0 1 {\"n\":1}\nno header";
    assert_eq!(desk.dump().await["active"].0, hash(&[("t", started)]));
}

#[tokio::test]
async fn an_active_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "active", "x")).await;
    desk.refuses(&call(&tasks(["t"]))).await;
}
