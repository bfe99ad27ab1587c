//! promote.lua: a follower runs after all.

use redial_core::script::{Invocation, PROMOTE};

use super::followers::desk;
use super::{AWKWARD, Desk, hash};

fn call(serial: &str) -> Invocation {
    up_to(serial, 1)
}

fn up_to(serial: &str, most: impl ToString) -> Invocation {
    let call = PROMOTE.call().key("followers").key("parked").key("scheduled").key("watch").key("stats");
    call.arg("memo ab").arg(serial).arg(most)
}

#[tokio::test]
async fn the_next_in_line_moves_as_it_is_and_is_due_at_once() {
    let desk = desk(&AWKWARD).await;
    for (n, raw) in AWKWARD.iter().enumerate() {
        let (serial, before) = (format!("s{n}"), desk.now().await);
        let entry: Vec<u8> = desk.ask(("HGET", "parked", &serial)).await;
        assert_eq!(desk.run::<[String; 1]>(&call("")).await, [serial]);
        let due: u64 = desk.ask(("ZSCORE", "scheduled", &entry)).await;
        assert!((before..before + 5_000).contains(&due));
        assert!(entry.ends_with(raw));
    }
    assert_eq!(desk.run::<[String; 0]>(&call("")).await, [""; 0]);
    let dump = desk.dump().await;
    assert_eq!(dump["stats"].0, hash(&[("followed", "6"), ("promoted", "6")]));
    assert!(!dump.contains_key("parked") && !dump.contains_key("followers"));
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "watch", 0, -1)).await, ["memo ab"]);
}

#[tokio::test]
async fn a_certain_one_goes_before_its_turn_and_only_once() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    assert_eq!(desk.run::<[String; 1]>(&call("s1")).await, ["s1"]);
    desk.changes_nothing(&call("s1"), Vec::<String>::new()).await;
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "followers", 0, -1)).await, ["s0", "s2"]);
    assert_eq!(desk.run::<[String; 1]>(&call("")).await, ["s0"]);
}

#[tokio::test]
async fn several_move_in_their_order_and_no_more_than_there_are() {
    let desk = desk(&[b"a", b"b", b"c", b"d"]).await;
    let () = desk.ask(("HDEL", "parked", "s1")).await;
    assert_eq!(desk.run::<Vec<String>>(&up_to("", "last")).await, ["s3"], "the last");
    assert_eq!(desk.run::<Vec<String>>(&up_to("", 2)).await, ["s0", "s2"]);
    assert_eq!(desk.run::<Vec<String>>(&up_to("", 100)).await, [""; 0]);
    assert_eq!(desk.dump().await["stats"].0, hash(&[("followed", "4"), ("promoted", "3")]));
}

#[tokio::test]
async fn those_that_are_gone_are_passed_over() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    let () = desk.ask(("HDEL", "parked", "s0", "s1")).await;
    assert_eq!(desk.run::<[String; 1]>(&call("")).await, ["s2"]);
    assert_eq!(desk.ask::<u64>(("ZCARD", "followers")).await, 0);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["followers", "parked", "scheduled", "watch", "stats"] {
        let desk: Desk = desk(&[b"a"]).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("")).await;
        desk.refuses(&call("s0")).await;
    }
}
