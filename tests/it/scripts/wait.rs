//! wait.lua, and what finish.lua and bury.lua do for those who asked with it.

use redial_core::script::{BURY, Invocation, WAIT};

use super::finish::{self, plain};
use super::{Desk, Held, entry, list};

const SPAN: u64 = 50_000;

fn call(by: &str, span: u64, keys: &[&str]) -> Invocation {
    let call = keys.iter().fold(WAIT.call().key("waiters"), |call, key| call.key(*key));
    call.arg(by).arg(span).arg(1_000)
}

type Found = Vec<Option<String>>;

#[tokio::test]
async fn what_is_there_is_answered_and_what_is_not_is_told_the_moment_it_is() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "r1", "old", "PX", 50_000)).await;
    desk.hold("t", &entry("t", 0, false, b"raw")).await;
    desk.hold("u", &entry("u", 0, false, b"raw")).await;
    for _ in 0..2 {
        let found: Found = desk.run(&call("mine", SPAN, &["r1", "r2", "r3"])).await;
        assert_eq!(found, [Some("old".to_owned()), None, None]);
    }
    let _: Found = desk.run(&call("theirs", SPAN, &["r2"])).await;
    assert_eq!(desk.ask::<u64>(("HLEN", "waiters")).await, 2);
    assert!(desk.dump().await["waiters"].1, "requests go away by themselves");

    assert_eq!(desk.run::<Vec<u8>>(&plain(finish::call(), "t", "r2")).await, [1]);
    let told = list(&["r2\n{\"id\":\"t\"}"]);
    let dump = desk.dump().await;
    assert_eq!((&dump["mine"], &dump["theirs"]), (&(told.clone(), true), &(told, true)));
    let keys = ["active", "dead", "stats", "replies", "waiters", "waiting", "r3"];
    let bury = keys.into_iter().fold(BURY.call(), Invocation::key);
    assert_eq!(
        desk.run::<u8>(&bury.arg("hash").arg("u").arg("{}").arg("u").arg(1_000).arg("dead").arg("none").arg("")).await,
        1
    );
    assert_eq!(desk.ask::<String>(("LINDEX", "mine", 0)).await, "r3\ndead");
    assert_eq!(desk.ask::<u64>(("EXISTS", "waiters")).await, 0);
}

#[tokio::test]
async fn who_asks_no_more_is_not_told_and_others_are() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("t", 0, false, b"raw")).await;
    let _: Found = desk.run(&call("mine", SPAN, &["r1", "r2"])).await;
    let _: Found = desk.run(&call("theirs", SPAN, &["r1"])).await;
    for _ in 0..2 {
        let _: Found = desk.run(&call("mine", 0, &["r1", "r2"])).await;
    }
    assert_eq!(desk.run::<Vec<u8>>(&plain(finish::call(), "t", "r1")).await, [1]);
    let keys: Vec<String> = desk.dump().await.into_keys().collect();
    assert_eq!(keys, ["r1", "stats", "theirs"]);
}

#[tokio::test]
async fn requests_of_waiters_that_died_are_dropped_by_those_who_come_after() {
    let desk = Desk::new().await;
    for n in 0..5 {
        let () = desk.ask(("HSET", "waiters", format!("gone{n}"), "1 dead\n")).await;
    }
    for _ in 0..200 {
        let _: Found = desk.run(&call("mine", SPAN, &["r"])).await;
    }
    let Held::Hash(left) = &desk.dump().await["waiters"].0 else { panic!() };
    assert_eq!(left.keys().collect::<Vec<_>>(), ["r"]);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    for key in ["waiters", "r"] {
        let desk = Desk::new().await;
        let () = desk.ask(("LPUSH", key, "x")).await;
        desk.refuses(&call("mine", SPAN, &["r"])).await;
    }
}
