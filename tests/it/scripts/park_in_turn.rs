//! park_in_turn.lua: tasks are parked in a wait list whose order is fair between keys.

use redial_core::UnixMs;
use redial_core::script::task::ParkInTurn;
use redial_core::script::turn::TurnTask;

use super::{AWKWARD, Desk, entry, hash, sorted};

pub(super) const HEADER: &str = "s:1:1 1000 0 0 {\"n\":1}";

/// A task that costs 1 of its key's share.
pub(super) fn task<'a>(token: &'a str, serial: &'a str, fairness_key: &'a str) -> TurnTask<'a> {
    TurnTask {
        token,
        serial,
        header: HEADER,
        deadline: None,
        cost: 1.0,
        fairness_key,
        position: None,
        dies_when_spent: false,
    }
}

pub(super) fn call<'a>(tasks: &'a [TurnTask<'a>]) -> ParkInTurn<'a> {
    ParkInTurn {
        active: "active",
        stored: "stored",
        wait_list: "list",
        turns: "turns",
        costs: "costs",
        watch: "watch",
        stats: "stats",
        list_name: "limit l",
        check_in_ms: 8_000,
        tasks,
    }
}

/// Parks one task after another, each `<key><n>`, that costs this much.
async fn park(desk: &Desk, tasks: &[(&str, f64)]) {
    for (name, cost) in tasks {
        desk.hold(name, b"h\nraw").await;
        let task = TurnTask { cost: *cost, ..task(name, name, &name[..1]) };
        assert_eq!(desk.run(&call(&[task])).await, [true]);
    }
}

async fn order(desk: &Desk) -> Vec<String> {
    desk.ask(("ZRANGE", "list", 0, -1)).await
}

#[tokio::test]
async fn tasks_wait_with_their_new_headers_and_old_bytes_and_are_watched() {
    let desk = Desk::new().await;
    let (tokens, serials): (Vec<String>, Vec<String>) = (0..6).map(|n| (format!("t{n}"), format!("s{n}"))).unzip();
    for (token, raw) in tokens.iter().zip(AWKWARD) {
        desk.hold(token, &entry("s:1:1", 0, true, raw)).await;
    }
    desk.hold("other", b"o\nx").await;
    let mut tasks: Vec<TurnTask<'_>> = tokens.iter().zip(&serials).map(|(t, s)| task(t, s, "k")).collect();
    tasks[1].deadline = Some(UnixMs(99_000));
    tasks.push(task("gone", "s9", "k"));
    let before = desk.now().await;
    assert_eq!(desk.run(&call(&tasks)).await, [true, true, true, true, true, true, false]);
    let dump = desk.dump().await;
    for (serial, raw) in serials.iter().zip(AWKWARD) {
        let waits: Vec<u8> = desk.ask(("HGET", "stored", serial)).await;
        assert_eq!(waits, [HEADER.as_bytes(), b"\n", raw].concat());
    }
    assert_eq!(dump["active"].0, hash(&[("other", "o\nx")]));
    assert_eq!(dump["stats"].0, hash(&[("parked", "6")]));
    assert_eq!(dump["turns"].0, hash(&[("k", "6")]));
    assert_eq!(order(&desk).await, serials);
    assert_eq!(desk.ask::<u64>(("ZSCORE", "watch", "s1")).await, 99_000);
    let look: u64 = desk.ask(("ZSCORE", "watch", "limit l")).await;
    assert!((before + 8_000..before + 13_000).contains(&look));
    assert_eq!(dump.len(), 6, "{dump:?}");
    // Sent twice: the leases are gone with the first.
    desk.changes_nothing(&call(&tasks), vec![false; 7]).await;
}

#[tokio::test]
async fn keys_get_equal_shares_by_cost_and_a_late_one_nothing_for_the_time_before() {
    let desk = Desk::new().await;
    park(&desk, &[("a0", 1.0), ("a1", 1.0), ("a2", 1.0), ("a3", 1.0), ("b0", 2.0), ("b1", 2.0), ("b2", 2.0)]).await;
    assert_eq!(order(&desk).await, ["a0", "b0", "a1", "a2", "b1", "a3", "b2"]);
    assert_eq!(desk.dump().await["costs"].0, hash(&[("b0", "2.0"), ("b1", "2.0"), ("b2", "2.0")]));
    // When half of it is done, another key comes.
    let () = desk.ask(("ZREM", "list", "a0", "b0", "a1")).await;
    park(&desk, &[("c0", 1.0), ("c1", 1.0)]).await;
    assert_eq!(order(&desk).await, ["a2", "b1", "c0", "a3", "c1", "b2"].map(str::to_owned).to_vec().as_slice());
}

#[tokio::test]
async fn a_task_that_does_not_wait_for_a_spent_limit_is_known_by_its_cost() {
    let desk = Desk::new().await;
    for (name, cost) in [("a0", 1.0), ("a1", 0.5)] {
        desk.hold(name, b"h\nraw").await;
        let task = TurnTask { cost, dies_when_spent: true, ..task(name, name, "a") };
        assert_eq!(desk.run(&call(&[task])).await, [true]);
    }
    assert_eq!(desk.dump().await["costs"].0, hash(&[("a0", "1.0 spent"), ("a1", "0.5 spent")]));
}

#[tokio::test]
async fn a_task_that_comes_back_has_its_place_again_and_uses_no_other() {
    let desk = Desk::new().await;
    park(&desk, &[("a0", 1.0), ("a1", 1.0), ("a2", 1.0)]).await;
    let () = desk.ask(("ZREM", "list", "a0")).await;
    desk.hold("t", b"h\nraw").await;
    assert_eq!(desk.run(&call(&[TurnTask { position: Some("0"), ..task("t", "a0", "a") }])).await, [true]);
    let dump = desk.dump().await;
    assert_eq!(dump["list"].0, sorted(&[("a0", 0), ("a1", 1), ("a2", 2)]));
    assert_eq!(dump["turns"].0, hash(&[("a", "3")]));
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["active", "stored", "list", "turns", "costs", "watch"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call(&[task("t", "s", "k")])).await;
    }
}
