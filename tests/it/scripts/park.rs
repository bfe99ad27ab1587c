//! park.lua: a task is parked in a wait list.

use redial_core::UnixMs;
use redial_core::script::task::Park;

use super::{AWKWARD, Desk, entry, hash, sorted};

const HEADER: &str = "s:1:1 1000 0 0 {\"n\":1}";

pub(crate) fn call<'a>(token: &'a str, serial: &'a str, deadline_ms: Option<u64>) -> Park<'a> {
    Park {
        active: "active",
        stored: "stored",
        wait_list: "list",
        watch: "watch",
        stats: "stats",
        token,
        serial,
        header: HEADER,
        list_name: "memo ab",
        check_in_ms: 8_000,
        deadline_ms: deadline_ms.map(UnixMs),
        position: None,
    }
}

#[tokio::test]
async fn a_task_waits_with_its_new_header_and_its_old_bytes_and_is_watched() {
    for raw in AWKWARD {
        let desk = Desk::new().await;
        desk.hold("t", &entry("s:1:1", 0, true, raw)).await;
        desk.hold("other", b"o\nx").await;
        let before = desk.now().await;
        assert!(desk.run(&call("t", "s:1:1", None)).await);
        let waits = [HEADER.as_bytes(), b"\n", raw].concat();
        let dump = desk.dump().await;
        assert_eq!(dump["stored"], (hash(&[("s:1:1", waits)]), false));
        assert_eq!(dump["active"].0, hash(&[("other", "o\nx")]));
        assert_eq!(dump["stats"].0, hash(&[("parked", "1")]));
        let at: u64 = desk.ask(("ZSCORE", "list", "s:1:1")).await;
        let look: u64 = desk.ask(("ZSCORE", "watch", "memo ab")).await;
        assert!((before..before + 5_000).contains(&at) && look == at + 8_000);
        assert_eq!(dump.len(), 5, "{dump:?}");
        // Sent twice: the lease is gone with the first.
        desk.changes_nothing(&call("t", "s:1:1", None), false).await;
    }
}

#[tokio::test]
async fn a_deadline_is_watched_and_a_later_task_postpones_no_check() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "watch", 5, "memo ab")).await;
    desk.hold("t", b"h\nraw").await;
    assert!(desk.run(&call("t", "s:1:1", Some(99_000))).await);
    assert_eq!(desk.dump().await["watch"].0, sorted(&[("memo ab", 5), ("s:1:1", 99_000)]));
}

#[tokio::test]
async fn a_task_takes_the_given_position_in_the_list() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let call = Park { list_name: "breaker h:1", position: Some(77), ..call("t", "s:1:1", None) };
    assert!(desk.run(&call).await);
    assert_eq!(desk.dump().await["list"].0, sorted(&[("s:1:1", 77)]));
}

#[tokio::test]
async fn a_worker_that_lost_the_task_parks_nothing() {
    let desk = Desk::new().await;
    desk.hold("other", b"o\nx").await;
    desk.changes_nothing(&call("t", "s", None), false).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["active", "stored", "list", "watch"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("t", "s", None)).await;
    }
}
