//! define_limit.lua: a limit is defined by hand or by the configuration of workers.

use redial_core::UnixMs;
use redial_core::script::limit::{Acquire, DefineLimit};

use super::Desk;
use super::acquire::{ONE, call, requests, told, words};

async fn define(desk: &Desk, definition: &str) -> bool {
    define_as(desk, "set", definition, 0).await
}

async fn define_as(desk: &Desk, source: &str, definition: &str, stated_at_ms: u64) -> bool {
    let stated_at_ms = UnixMs(stated_at_ms);
    desk.run(&DefineLimit { limit_key: "l", source, definition, stated_at_ms, idle_ttl_ms: 60_000 }).await
}

async fn field(desk: &Desk, name: &str) -> String {
    desk.ask(("HGET", "l", name)).await
}

/// As if no worker had stated the configuration for a minute.
async fn a_minute_passes(desk: &Desk) {
    let until: f64 = field(desk, "config_until").await.parse().unwrap();
    let () = desk.ask(("HSET", "l", "config_until", format!("{:.2}", until - 60e6))).await;
}

#[tokio::test]
async fn a_definition_by_hand_is_in_force_at_once_until_it_is_removed() {
    let desk = Desk::new().await;
    assert!(!define(&desk, "").await);
    define(&desk, "1000 1000 5 -").await;
    let told = told(&desk, "config", "1 1000 1 -", &[ONE; 5]).await;
    assert!(told.iter().all(|(word, _)| word == "granted"), "{told:?}");
    assert_eq!(desk.ask::<i64>(("PTTL", "l")).await, -1);
    assert!(define(&desk, "").await);
    let held: Option<String> = desk.ask(("HGET", "l", "set")).await;
    assert_eq!(held, None);
    assert_eq!(field(&desk, "in_force").await, "1 1000 1 -", "the configuration counts again");
    assert!(desk.ask::<i64>(("PTTL", "l")).await > 0);
}

#[tokio::test]
async fn a_limit_that_no_one_defines_any_longer_goes_away() {
    let desk = Desk::new().await;
    define(&desk, "1 1000 1 -").await;
    define(&desk, "").await;
    assert!((1..=60_000).contains(&desk.ask::<i64>(("PTTL", "l")).await));
    assert_eq!(words(&told(&desk, "name", "", &[ONE]).await), "undefined");
}

#[tokio::test]
async fn what_is_left_in_the_bucket_stays_under_another_definition_as_far_as_its_burst_allows() {
    for (before, took, after, left) in [
        ("1 1000000 10 -", 4, "1 1000000 100 -", 6),
        ("1 1000000 10 -", 4, "1 1000000 3 -", 3),
        ("1 1000000 10 -", 10, "5 1000000 50 -", 0),
        ("1 1000000 10 -", 0, "1 1000000 12 -", 10),
    ] {
        let desk = Desk::new().await;
        told(&desk, "inline", before, &[]).await;
        told(&desk, "inline", before, &vec![ONE; took]).await;
        define(&desk, after).await;
        let admitted = words(&told(&desk, "inline", before, &[ONE; 200]).await).matches("granted").count();
        assert_eq!(admitted, left, "{before}, {took} taken, then {after}");
    }
}

#[tokio::test]
async fn the_configuration_of_the_newest_worker_counts_and_an_older_one_does_not_flip_it_back() {
    let desk = Desk::new().await;
    let (old, new) = ("1 1000 1 -", "2 1000 2 -");
    define_as(&desk, "config", old, 10).await;
    define_as(&desk, "config", new, 20).await;
    for _ in 0..3 {
        // Both go on stating theirs, and their calls do the same.
        define_as(&desk, "config", old, 10).await;
        assert_eq!(field(&desk, "in_force").await, new);
        define_as(&desk, "config", new, 20).await;
        desk.run(&Acquire { stated_at_ms: UnixMs(10), ..call("config", old, &[]) }).await;
        assert_eq!(field(&desk, "in_force").await, new);
    }
    // A worker that does not know yet since when it is configured overrides no one.
    define_as(&desk, "config", old, 0).await;
    assert_eq!(field(&desk, "in_force").await, new);
}

#[tokio::test]
async fn a_configuration_that_no_worker_states_any_more_ends_after_a_minute() {
    let desk = Desk::new().await;
    define_as(&desk, "config", "2 1000 2 -", 20).await;
    told(&desk, "inline", "7 1000 7 -", &[ONE]).await;
    assert_eq!(field(&desk, "in_force").await, "2 1000 2 -");
    let now: f64 = field(&desk, "last_now").await.parse().unwrap();
    let until: f64 = field(&desk, "config_until").await.parse().unwrap();
    assert!((59e6..=60e6).contains(&(until - now)), "{}", until - now);
    a_minute_passes(&desk).await;
    told(&desk, "name", "", &[ONE]).await;
    assert_eq!(field(&desk, "in_force").await, "7 1000 7 -", "that of tasks counts now");
    // Then the older worker's counts, if that is what runs.
    define_as(&desk, "config", "1 1000 1 -", 10).await;
    assert_eq!(field(&desk, "in_force").await, "1 1000 1 -");

    let desk = Desk::new().await;
    define_as(&desk, "config", "2 1000 2 -", 20).await;
    a_minute_passes(&desk).await;
    assert_eq!(words(&told(&desk, "name", "", &[ONE]).await), "undefined");
}

#[tokio::test]
async fn stating_a_configuration_again_extends_it_and_writes_nothing_else() {
    let desk = Desk::new().await;
    define_as(&desk, "config", "2 1000 2 -", 20).await;
    let first = desk.dump().await;
    define_as(&desk, "config", "2 1000 2 -", 20).await;
    assert_eq!(desk.dump().await, first, "there is no need yet");
    let until = field(&desk, "config_until").await;
    let () = desk.ask(("HSET", "l", "config_until", format!("{:.2}", until.parse::<f64>().unwrap() - 30e6))).await;
    define_as(&desk, "config", "2 1000 2 -", 20).await;
    assert!(field(&desk, "config_until").await >= until);
}

#[tokio::test]
async fn two_inline_definitions_in_turn_do_not_change_the_rate() {
    let desk = Desk::new().await;
    let (mut granted, mut seen) = (0, 0);
    let one = requests(&[ONE]);
    for _ in 0..1_000 {
        desk.pass(2).await;
        for definition in ["20 1000 1 -", "21 1000 1 -"] {
            seen += 1;
            let call = Acquire { stated_at_ms: UnixMs(seen), window_us: 0, ..call("inline", definition, &one) };
            let acquired = desk.run(&call).await;
            granted += usize::from(matches!(acquired.grants[0], redial_core::limit::Grant::Granted { .. }));
            assert_eq!(field(&desk, "in_force").await, definition);
        }
    }
    assert!((40..=43).contains(&granted), "{granted} in two seconds");
}
