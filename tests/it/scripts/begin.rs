//! begin.lua: the mark before a call that must survive a kill.

use redial_core::script::{BEGIN, Invocation};

use super::{AWKWARD, Desk, entry, hash};

fn call(token: &str) -> Invocation {
    BEGIN.call().key("active").arg(token).arg("s:1:1 1000 0 1 {\"n\":1}")
}

#[tokio::test]
async fn the_header_is_replaced_and_the_bytes_stay() {
    let desk = Desk::new().await;
    for raw in AWKWARD {
        desk.hold("t", &entry("s:1:1", 0, false, raw)).await;
        desk.hold("other", b"o\nx").await;
        assert_eq!(desk.run::<u8>(&call("t")).await, 1);
        let started = [b"s:1:1 1000 0 1 {\"n\":1}\n", raw].concat();
        let held = hash(&[("t", started.as_slice()), ("other", b"o\nx")]);
        assert_eq!(desk.dump().await["active"], (held, false));
        // Sent twice, it answers alike and changes nothing.
        desk.changes_nothing(&call("t"), 1).await;
    }
}

#[tokio::test]
async fn a_worker_that_lost_the_task_may_not_begin() {
    let desk = Desk::new().await;
    desk.changes_nothing(&call("t"), 0).await;
    desk.hold("other", b"o\nx").await;
    desk.changes_nothing(&call("t"), 0).await;
}

#[tokio::test]
async fn what_is_no_entry_keeps_all_its_bytes() {
    let desk = Desk::new().await;
    desk.hold("t", b"no header").await;
    assert_eq!(desk.run::<u8>(&call("t")).await, 1);
    let started = "s:1:1 1000 0 1 {\"n\":1}\nno header";
    assert_eq!(desk.dump().await["active"].0, hash(&[("t", started)]));
}

#[tokio::test]
async fn an_active_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "active", "x")).await;
    desk.refuses(&call("t")).await;
}
