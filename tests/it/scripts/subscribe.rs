//! subscribe.lua, and how finish.lua and bury.lua notify the waiters that subscribed.

use redial_core::script::MoreKeys;
use redial_core::script::ending::{Ending, ReplyRoute};
use redial_core::script::task::{Bury, Subscribe};

use super::finish::{RESULT, plain};
use super::{Desk, Held, bury, entry, list};

const SPAN: u64 = 50_000;

fn call<'a>(waiter_list: &'a str, subscribe_ms: u64, result_keys: &'a [String]) -> Subscribe<'a> {
    Subscribe { waiters: "waiters", waiter_list, subscribe_ms, grace_ms: 1_000, result_keys: MoreKeys(result_keys) }
}

async fn subscribe(desk: &Desk, waiter: &str, span: u64, keys: &[&str]) -> Vec<Option<String>> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    desk.run(&call(waiter, span, &keys)).await
}

#[tokio::test]
async fn results_that_exist_are_returned_and_later_ones_are_sent_as_soon_as_they_exist() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "r1", "old", "PX", 50_000)).await;
    desk.hold("t", &entry("t", 0, false, b"raw")).await;
    desk.hold("u", &entry("u", 0, false, b"raw")).await;
    for _ in 0..2 {
        let found = subscribe(&desk, "mine", SPAN, &["r1", "r2", "r3"]).await;
        assert_eq!(found, [Some("old".to_owned()), None, None]);
    }
    subscribe(&desk, "theirs", SPAN, &["r2"]).await;
    assert_eq!(desk.ask::<u64>(("HLEN", "waiters")).await, 2);
    assert!(desk.dump().await["waiters"].1, "requests go away by themselves");

    assert_eq!(desk.finish_all(&[plain("t", "r2")]).await, [true]);
    let told = list(&[format!("r2\n{RESULT}")]);
    let dump = desk.dump().await;
    assert_eq!((&dump["mine"], &dump["theirs"]), (&(told.clone(), true), &(told, true)));
    let ending = Ending {
        result_key: "r3",
        ttl_ms: 1_000,
        result: "dead",
        reply: ReplyRoute::None,
        stream: None,
        follow_ups: &[],
    };
    assert!(desk.run(&Bury { ending: Some(ending), ..bury::without_id("u") }).await);
    assert_eq!(desk.ask::<String>(("LINDEX", "mine", 0)).await, "r3\ndead");
    assert_eq!(desk.ask::<u64>(("EXISTS", "waiters")).await, 0);
}

#[tokio::test]
async fn a_waiter_that_unsubscribed_is_not_notified_and_others_are() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("t", 0, false, b"raw")).await;
    subscribe(&desk, "mine", SPAN, &["r1", "r2"]).await;
    subscribe(&desk, "theirs", SPAN, &["r1"]).await;
    for _ in 0..2 {
        subscribe(&desk, "mine", 0, &["r1", "r2"]).await;
    }
    assert_eq!(desk.finish_all(&[plain("t", "r1")]).await, [true]);
    let keys: Vec<String> = desk.dump().await.into_keys().collect();
    assert_eq!(keys, ["r1", "stats", "theirs"]);
}

#[tokio::test]
async fn subscriptions_of_waiters_that_died_are_dropped_by_later_calls() {
    let desk = Desk::new().await;
    for n in 0..5 {
        let () = desk.ask(("HSET", "waiters", format!("gone{n}"), "1 dead\n")).await;
    }
    for _ in 0..200 {
        subscribe(&desk, "mine", SPAN, &["r"]).await;
    }
    let Held::Hash(left) = &desk.dump().await["waiters"].0 else { panic!() };
    assert_eq!(left.keys().collect::<Vec<_>>(), ["r"]);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    for key in ["waiters", "r"] {
        let desk = Desk::new().await;
        let () = desk.ask(("LPUSH", key, "x")).await;
        desk.refuses(&call("mine", SPAN, &["r".to_owned()])).await;
    }
}
