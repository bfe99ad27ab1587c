//! follow.lua: a task is parked in a line.

use redial_core::script::{FOLLOW, Invocation};

use super::{AWKWARD, Desk, entry, hash, sorted};

const HEADER: &str = "s:1:1 1000 0 0 {\"n\":1}";

pub(crate) fn call(token: &str, serial: &str, deadline: &str) -> Invocation {
    let call = FOLLOW.call().key("active").key("parked").key("followers").key("watch").key("stats");
    call.arg(token).arg(serial).arg(HEADER).arg("memo ab").arg(8_000).arg(deadline).arg("")
}

#[tokio::test]
async fn a_task_waits_with_its_new_header_and_its_old_bytes_and_is_watched() {
    for raw in AWKWARD {
        let desk = Desk::new().await;
        desk.hold("t", &entry("s:1:1", 0, true, raw)).await;
        desk.hold("other", b"o\nx").await;
        let before = desk.now().await;
        assert_eq!(desk.run::<u8>(&call("t", "s:1:1", "")).await, 1);
        let waits = [HEADER.as_bytes(), b"\n", raw].concat();
        let dump = desk.dump().await;
        assert_eq!(dump["parked"], (hash(&[("s:1:1", waits)]), false));
        assert_eq!(dump["active"].0, hash(&[("other", "o\nx")]));
        assert_eq!(dump["stats"].0, hash(&[("followed", "1")]));
        let at: u64 = desk.ask(("ZSCORE", "followers", "s:1:1")).await;
        let look: u64 = desk.ask(("ZSCORE", "watch", "memo ab")).await;
        assert!((before..before + 5_000).contains(&at) && look == at + 8_000);
        assert_eq!(dump.len(), 5, "{dump:?}");
        // Sent twice: the lease is gone with the first.
        desk.changes_nothing(&call("t", "s:1:1", ""), 0).await;
    }
}

#[tokio::test]
async fn a_deadline_is_watched_and_a_later_follower_puts_no_look_off() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "watch", 5, "memo ab")).await;
    desk.hold("t", b"h\nraw").await;
    assert_eq!(desk.run::<u8>(&call("t", "s:1:1", "99000")).await, 1);
    assert_eq!(desk.dump().await["watch"].0, sorted(&[("memo ab", 5), ("memo ab s:1:1", 99_000)]));
}

#[tokio::test]
async fn a_place_in_the_line_is_taken_as_it_is_given() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let call = FOLLOW.call().key("active").key("parked").key("followers").key("watch").key("stats");
    let call = call.arg("t").arg("s:1:1").arg(HEADER).arg("breaker h:1").arg(8_000).arg("").arg(77);
    assert_eq!(desk.run::<u8>(&call).await, 1);
    assert_eq!(desk.dump().await["followers"].0, sorted(&[("s:1:1", 77)]));
}

#[tokio::test]
async fn a_worker_that_lost_the_task_parks_nothing() {
    let desk = Desk::new().await;
    desk.hold("other", b"o\nx").await;
    desk.changes_nothing(&call("t", "s", ""), 0).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["active", "parked", "followers", "watch", "stats"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("t", "s", "")).await;
    }
}
