//! mark_started.lua: the record of a call that is about to be sent.

use redial_core::script::task::MarkStarted;

use super::{AWKWARD, Desk, entry, hash};

fn call(token: &str) -> MarkStarted<'_> {
    MarkStarted { active: "active", token, header: "s:1:1 1000 0 1 {\"n\":1}" }
}

#[tokio::test]
async fn the_header_is_replaced_and_the_bytes_stay() {
    let desk = Desk::new().await;
    for raw in AWKWARD {
        desk.hold("t", &entry("s:1:1", 0, false, raw)).await;
        desk.hold("other", b"o\nx").await;
        assert!(desk.run(&call("t")).await);
        let started = [b"s:1:1 1000 0 1 {\"n\":1}\n", raw].concat();
        let held = hash(&[("t", started.as_slice()), ("other", b"o\nx")]);
        assert_eq!(desk.dump().await["active"], (held, false));
        // Sent twice, it answers alike and changes nothing.
        desk.changes_nothing(&call("t"), true).await;
    }
}

#[tokio::test]
async fn a_worker_that_lost_the_task_may_not_start_a_call() {
    let desk = Desk::new().await;
    desk.changes_nothing(&call("t"), false).await;
    desk.hold("other", b"o\nx").await;
    desk.changes_nothing(&call("t"), false).await;
}

#[tokio::test]
async fn a_value_that_is_not_an_entry_keeps_all_its_bytes() {
    let desk = Desk::new().await;
    desk.hold("t", b"no header").await;
    assert!(desk.run(&call("t")).await);
    let started = "s:1:1 1000 0 1 {\"n\":1}\nno header";
    assert_eq!(desk.dump().await["active"].0, hash(&[("t", started)]));
}

#[tokio::test]
async fn an_active_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "active", "x")).await;
    desk.refuses(&call("t")).await;
}
