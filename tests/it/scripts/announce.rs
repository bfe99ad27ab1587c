//! announce.lua: the list of the fleet's workers.

use redial_core::script::fleet::Announce;

use super::Desk;

#[tokio::test]
async fn a_worker_is_listed_for_its_lease_and_dropped_some_time_after() {
    let desk = Desk::new().await;
    let call = |entry| Announce { announced: "announced", entry, lease_ms: 8_000, keep_ms: 60_000 };
    assert!(desk.run(&call("w1 a,b")).await, "it was not listed");
    let until: u64 = desk.ask(("ZSCORE", "announced", "w1 a,b")).await;
    assert!(until.abs_diff(desk.now().await + 8_000) < 5_000);

    let now = desk.now().await;
    let () = desk.ask(("ZADD", "announced", now - 50_000, "gone a", now - 70_000, "long-gone a")).await;
    assert!(!desk.run(&call("w1 a,b")).await);
    let listed: Vec<String> = desk.ask(("ZRANGE", "announced", 0, -1)).await;
    assert_eq!(listed, ["gone a", "w1 a,b"]);
}

#[tokio::test]
async fn a_key_of_another_type_is_refused() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "announced", "something else")).await;
    desk.refuses(&Announce { announced: "announced", entry: "w a", lease_ms: 1, keep_ms: 1 }).await;
}
