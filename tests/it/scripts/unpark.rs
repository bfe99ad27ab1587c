//! unpark.lua: parked tasks become available to workers.

use redial_core::script::task::{Selection, Unpark};

use super::parked_page::desk;
use super::{AWKWARD, Desk, hash};

fn call(serial: &str) -> Unpark<'_> {
    let (wait_list, stored, scheduled, stats) = ("list", "stored", "scheduled", "stats");
    Unpark { wait_list, stored, scheduled, stats, serial, selection: Selection::Next(1) }
}

fn some<'a>(selection: Selection) -> Unpark<'a> {
    Unpark { selection, ..call("") }
}

#[tokio::test]
async fn the_first_task_moves_unchanged_and_is_due_at_once() {
    let desk = desk(&AWKWARD).await;
    for (n, raw) in AWKWARD.iter().enumerate() {
        let (serial, before) = (format!("s{n}"), desk.now().await);
        assert_eq!(desk.run(&call("")).await, [serial.as_str()]);
        let due: u64 = desk.ask(("ZSCORE", "scheduled", &serial)).await;
        assert!((before..before + 5_000).contains(&due));
        let entry: Vec<u8> = desk.ask(("HGET", "stored", &serial)).await;
        assert!(entry.ends_with(raw));
    }
    assert!(desk.run(&call("")).await.is_empty());
    let dump = desk.dump().await;
    assert_eq!(dump["stats"].0, hash(&[("parked", "6"), ("unparked", "6")]));
    assert!(!dump.contains_key("list"));
    assert_eq!(desk.ask::<u64>(("ZCARD", "watch")).await, 7, "deadlines are watched until the tasks are claimed");
}

#[tokio::test]
async fn a_particular_task_is_unparked_before_its_turn_and_only_once() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    assert_eq!(desk.run(&call("s1")).await, ["s1"]);
    desk.changes_nothing(&call("s1"), Vec::<String>::new()).await;
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "list", 0, -1)).await, ["s0", "s2"]);
    assert_eq!(desk.run(&call("")).await, ["s0"]);
}

#[tokio::test]
async fn several_move_in_their_order_and_no_more_than_there_are() {
    let desk = desk(&[b"a", b"b", b"c", b"d"]).await;
    let () = desk.ask(("HDEL", "stored", "s1")).await;
    assert_eq!(desk.run(&some(Selection::Last)).await, ["s3"], "the last");
    assert_eq!(desk.run(&some(Selection::Next(2))).await, ["s0", "s2"]);
    assert!(desk.run(&some(Selection::Next(100))).await.is_empty());
    assert_eq!(desk.dump().await["stats"].0, hash(&[("parked", "4"), ("unparked", "3")]));
}

#[tokio::test]
async fn serials_that_are_no_longer_parked_are_skipped() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    let () = desk.ask(("HDEL", "stored", "s0", "s1")).await;
    assert_eq!(desk.run(&call("")).await, ["s2"]);
    assert_eq!(desk.ask::<u64>(("ZCARD", "list")).await, 0);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["list", "stored", "scheduled"] {
        let desk: Desk = desk(&[b"a"]).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("")).await;
        desk.refuses(&call("s0")).await;
    }
}
