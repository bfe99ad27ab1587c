//! give_up.lua: a task that its worker could not go on with.

use redial_core::script::task::GiveUp;

use super::{AWKWARD, Desk, Held, entry, hash};

fn call(token: &str) -> GiveUp<'_> {
    GiveUp { active: "active", scheduled: "scheduled", stored: "stored", stats: "stats", token, wait_ms: 1_000 }
}

#[tokio::test]
async fn the_crash_counts_and_the_task_waits_longer_each_time() {
    for (crashes, started, wait_ms) in [(0, false, 1_000), (1, true, 2_000), (2, false, 4_000), (90, false, 4_096_000)]
    {
        let desk = Desk::new().await;
        desk.hold("t", &entry("s:1:1", crashes, started, AWKWARD[0])).await;
        desk.hold("other", b"o\nx").await;
        let before = desk.now().await;
        assert!(desk.run(&call("t")).await);
        let dump = desk.dump().await;
        let Held::Sorted(scheduled) = &dump["scheduled"].0 else { panic!("{dump:?}") };
        #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
        let due = scheduled[0].1 - before as f64;
        assert!((f64::from(wait_ms)..f64::from(wait_ms) + 10_000.0).contains(&due), "{due}");
        let held: Vec<Vec<u8>> = desk.ask(("HVALS", "stored")).await;
        assert_eq!(held, [entry("s:1:1", crashes + 1, started, AWKWARD[0])]);
        assert_eq!(dump["active"].0, hash(&[("other", "o\nx")]));
        assert_eq!(dump["stats"].0, hash(&[("given_up", "1")]));
        desk.changes_nothing(&call("t"), false).await;
    }
}

#[tokio::test]
async fn every_byte_stays_and_a_lost_task_is_left_alone() {
    let desk = Desk::new().await;
    desk.changes_nothing(&call("t"), false).await;
    for (n, raw) in AWKWARD.into_iter().enumerate() {
        desk.hold("t", &entry(&format!("s:1:{n}"), 0, false, raw)).await;
        assert!(desk.run(&call("t")).await);
    }
    desk.hold("t", b"no header").await;
    assert!(desk.run(&call("t")).await);
    let held: Vec<Vec<u8>> = desk.ask(("HVALS", "stored")).await;
    for (n, raw) in AWKWARD.into_iter().enumerate() {
        assert!(held.contains(&entry(&format!("s:1:{n}"), 1, false, raw)));
    }
    assert!(held.contains(&b"no header".to_vec()));
}

#[tokio::test]
async fn a_counter_of_another_type_holds_up_no_task() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("s:1:1", 0, false, b"raw")).await;
    let () = desk.ask(("SET", "stats", "x")).await;
    assert!(desk.run(&call("t")).await);
    desk.hold("t", &entry("s:1:2", 0, false, b"raw")).await;
    let () = desk.ask(("SET", "scheduled", "x")).await;
    desk.refuses(&call("t")).await;
}
