//! acquire.lua: calls are requested from a limit. The arithmetic is compared with a model on this Redis's clock.
#![expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "microseconds and small counts")]

use std::time::Duration;

use redial_core::UnixMs;
use redial_core::limit::{Acquired, Grant, WaitBound};
use redial_core::script::limit::{Acquire, AcquireRequest};

use super::Desk;

/// A request: fairness key, cost, the reservation that it got before (0: none), token.
pub(super) type Ask<'a> = (&'a str, &'a str, i64, &'a str);

pub(super) fn requests<'a>(asks: &[Ask<'a>], wait_bound: WaitBound) -> Vec<AcquireRequest<'a>> {
    asks.iter()
        .map(|&(fairness_key, cost, reservation, token)| AcquireRequest {
            fairness_key,
            cost: cost.parse().unwrap(),
            reservation: (reservation != 0).then(|| reservation.into()),
            token,
            wait_bound,
        })
        .collect()
}

pub(super) fn call<'a>(source: &'a str, definition: &'a str, requests: &'a [AcquireRequest<'a>]) -> Acquire<'a> {
    Acquire {
        limit_key: "l",
        reserved: "l:reserved",
        slots: "l:slots",
        queued: "l:queued",
        source,
        definition,
        hold_us: 50_000,
        slot_lease_ms: 8_000,
        idle_ttl_ms: 60_000,
        stated_at_ms: UnixMs(0),
        requests,
    }
}

/// The answer to each request: a word, and the numbers behind it.
pub(super) async fn told(desk: &Desk, source: &str, definition: &str, asks: &[Ask<'_>]) -> Vec<(String, Vec<f64>)> {
    told_bounded(desk, source, definition, asks, WaitBound::default()).await
}

/// The same for calls that are willing to wait only so long.
pub(super) async fn told_bounded(
    desk: &Desk,
    source: &str,
    definition: &str,
    asks: &[Ask<'_>],
    bound: WaitBound,
) -> Vec<(String, Vec<f64>)> {
    let Acquired { grants, .. } = desk.run(&call(source, definition, &requests(asks, bound))).await;
    let in_words = |grant| match grant {
        Grant::Admitted { wait, holds_slot, admitted_at } => {
            ("admitted", vec![wait.as_micros() as f64, f64::from(u8::from(holds_slot)), admitted_at])
        }
        Grant::Reserved(wait, reservation) => {
            ("reserved", vec![wait.as_micros() as f64, i64::from(reservation) as f64])
        }
        Grant::OverBurst(burst) => ("over_burst", vec![burst]),
        Grant::Undefined => ("undefined", Vec::new()),
        Grant::OverBudget(wait) => ("over_budget", vec![wait.as_micros() as f64]),
    };
    grants.into_iter().map(in_words).map(|(word, numbers)| (word.to_owned(), numbers)).collect()
}

pub(super) fn words(told: &[(String, Vec<f64>)]) -> String {
    told.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(" ")
}

const ONE: Ask = ("q", "1", 0, "t");

#[tokio::test]
async fn the_burst_is_admitted_at_once_and_the_rest_reserve_times_one_interval_apart() {
    let desk = Desk::new().await;
    let told = told(&desk, "inline", "10 1000 3 -", &[ONE; 6]).await;
    assert_eq!(words(&told), "admitted admitted admitted reserved reserved reserved");
    let waits: Vec<f64> = told.iter().map(|(_, numbers)| numbers[0]).collect();
    assert_eq!(waits, [0.0, 0.0, 0.0, 100_000.0, 200_000.0, 300_000.0]);
    let left: i64 = desk.ask(("PTTL", "l")).await;
    assert!(left > 50_000, "kept beyond its use: {left}");
}

#[tokio::test]
async fn a_reservation_is_checked_when_its_time_has_come_and_late_ones_make_no_burst() {
    let desk = Desk::new().await;
    let parked = told(&desk, "inline", "10 1000 1 -", &[ONE; 4]).await;
    let given: Vec<i64> = parked.iter().skip(1).map(|(_, numbers)| numbers[1] as i64).collect();
    // As if the fleet had been away for ten seconds.
    let asks: Vec<_> = given.iter().map(|at| ("q", "1", at - 10_000_000, "t")).collect();
    tokio::time::sleep(Duration::from_millis(450)).await;
    let late = told(&desk, "inline", "10 1000 1 -", &asks).await;
    assert_eq!(words(&late), "admitted reserved reserved");
}

#[tokio::test]
async fn a_slightly_early_call_keeps_its_reservation_and_a_very_early_one_books_again() {
    let desk = Desk::new().await;
    let parked = told(&desk, "inline", "10 1000 1 -", &[ONE; 3]).await;
    let given: Vec<i64> = parked.iter().skip(1).map(|(_, numbers)| numbers[1] as i64).collect();
    let early = told(&desk, "inline", "10 1000 1 -", &[("q", "1", given[1], "t")]).await;
    assert_eq!(words(&early), "reserved");
    assert!(early[0].1[1] as i64 > given[1], "at its flow's end: {early:?} after {given:?}");
    // 30 ms before its time.
    let soon_given = given[0] - (parked[1].1[0] as i64) + 30_000;
    let soon = told(&desk, "inline", "10 1000 1 -", &[("q", "1", soon_given, "t")]).await;
    assert_eq!((soon[0].0.as_str(), soon[0].1[1] as i64), ("reserved", soon_given));
}

async fn now_us(desk: &Desk) -> i64 {
    let (seconds, micros): (i64, i64) = desk.ask("TIME").await;
    seconds * 1_000_000 + micros
}

#[tokio::test]
async fn a_call_that_finds_the_rate_used_queues_ahead_of_later_calls_of_its_key() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000 1 -", &[ONE]).await;
    let now = now_us(&desk).await;
    // Two that were both given this moment, as when more is booked than there is.
    let lost = told(&desk, "inline", "1 1000 1 -", &[("a", "1", now, "t"), ("a", "1", now, "u")]).await;
    assert_eq!(words(&lost), "reserved reserved");
    let given: Vec<i64> = lost.iter().map(|(_, numbers)| numbers[1] as i64).collect();
    assert!(given[0] < 0 && given[0] - given[1] == 1_000_000, "{given:?}");
    // When the first may go, one comes that was given the same moment.
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    let asks = [("a", "1", -given[0], "v"), ("a", "1", given[0], "t")];
    let then = told(&desk, "inline", "1 1000 1 -", &asks).await;
    assert_eq!(words(&then), "reserved admitted", "the one that came after goes behind the line");
    assert_eq!(then[0].1[1] as i64, given[1] - 1_000_000);
}

#[tokio::test]
async fn the_queues_of_two_keys_get_equal_shares() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000 1 -", &[ONE]).await;
    let now = now_us(&desk).await;
    let of = |flow: &'static str| [(flow, "1", now, "t"); 4];
    told(&desk, "inline", "1 1000 1 -", &of("a")).await;
    let second = told(&desk, "inline", "1 1000 1 -", &of("b")).await;
    let waits: Vec<f64> = second.iter().map(|(_, numbers)| numbers[0]).collect();
    assert!((waits[1] - waits[0] - 2e6).abs() < 10.0 && waits[0] <= 1e6, "half the rate, from now on: {waits:?}");
}

#[tokio::test]
async fn times_booked_under_another_rate_are_void() {
    let desk = Desk::new().await;
    told(&desk, "config", "1 1000 1 -", &[ONE; 50]).await;
    let changed = Acquire { stated_at_ms: UnixMs(5), ..call("config", "50 1000 1 -", &[]) };
    assert!(desk.run(&changed).await.definition_changed, "it says that it is another");
    assert!(!desk.run(&changed).await.definition_changed);
    let told = told(&desk, "config", "50 1000 1 -", &[ONE; 2]).await;
    assert!(told[1].1[0] < 1_100_000.0, "not behind what fifty had booked: {told:?}");
}

#[tokio::test]
async fn no_window_ever_admits_more_than_burst_and_rate_whatever_the_rate() {
    for (rate, burst) in [("0.3", 1.0), ("1", 1.0), ("1.5", 2.0), ("7.3", 5.0), ("1000", 10.0)] {
        let desk = Desk::new().await;
        let definition = format!("{rate} 1000 {burst} -");
        let per_us = rate.parse::<f64>().unwrap() / 1e6;
        let mut went: Vec<f64> = Vec::new();
        for _ in 0..40 {
            let (seconds, micros): (f64, f64) = desk.ask("TIME").await;
            let answers = told(&desk, "inline", &definition, &[ONE; 5]).await;
            went.extend(
                answers.iter().filter(|(word, _)| word == "admitted").map(|(_, n)| seconds * 1e6 + micros + n[0]),
            );
        }
        for first in 0..went.len() {
            for last in first..went.len() {
                // The clock was read a moment before the script.
                let span = went[last] - went[first] + 5_000.0;
                let most = burst + per_us * span;
                assert!((last - first + 1) as f64 <= most, "{} in {span} us at {rate}", last - first + 1);
            }
        }
    }
}

#[tokio::test]
async fn keys_that_want_more_than_there_is_get_equal_shares() {
    let desk = Desk::new().await;
    told(&desk, "inline", "10 1000 1 -", &[("a", "1", 0, "t"); 50]).await;
    let late = told(&desk, "inline", "10 1000 1 -", &[("b", "1", 0, "t"); 3]).await;
    let waits: Vec<f64> = late.iter().map(|(_, numbers)| numbers[0]).collect();
    assert!(waits[0] <= 150_000.0 && waits[2] <= 550_000.0, "not behind the 5 s of the other: {waits:?}");
}

#[tokio::test]
async fn a_cost_above_a_stated_burst_is_refused_and_takes_nothing() {
    let desk = Desk::new().await;
    let told = told(&desk, "inline", "10 1000 2 -", &[("q", "3", 0, "t"), ("q", "2", 0, "t")]).await;
    assert_eq!(words(&told), "over_burst admitted");
}

#[tokio::test]
async fn a_cost_that_would_take_years_to_refill_is_refused_and_takes_nothing() {
    for cost in ["1e9", "1e300", "1.7e308"] {
        let desk = Desk::new().await;
        let told = told(&desk, "inline", "10 1000 - -", &[("q", cost, 0, "t"), ("q", "10", 0, "t")]).await;
        assert_eq!(words(&told), "over_burst admitted", "{cost}");
    }
}

#[tokio::test]
async fn slots_are_counted_by_token_and_taken_in_turn() {
    let desk = Desk::new().await;
    let asks =
        [("q", "1", 0, "t1"), ("q", "1", 0, "t2"), ("q", "1", 0, "t1"), ("q", "1", 0, "t3"), ("q", "1", 0, "t4")];
    let told = told(&desk, "inline", "- 1000 - 2", &asks).await;
    assert_eq!(words(&told), "admitted admitted admitted reserved reserved");
    assert!(told[4].1[0] > told[3].1[0], "each in its turn");
    assert_eq!(desk.ask::<u64>(("ZCARD", "l:slots")).await, 2);
}

#[tokio::test]
async fn the_definition_of_the_newest_task_counts() {
    let desk = Desk::new().await;
    for (definition, came, counts) in
        [("1 1000 1 -", 10, "1 1000 1 -"), ("2 1000 1 -", 20, "2 1000 1 -"), ("1 1000 1 -", 10, "2 1000 1 -")]
    {
        let call = Acquire { stated_at_ms: UnixMs(came), ..call("inline", definition, &[]) };
        desk.run(&call).await;
        assert_eq!(desk.ask::<String>(("HGET", "l", "inline")).await, counts);
    }
}

#[tokio::test]
async fn the_configuration_overrides_a_task_and_a_name_alone_defines_nothing() {
    let desk = Desk::new().await;
    assert_eq!(words(&told(&desk, "name", "", &[ONE]).await), "undefined");
    assert_eq!(desk.ask::<u64>(("EXISTS", "l")).await, 0);
    told(&desk, "inline", "1 1000 1 -", &[ONE]).await;
    assert_eq!(words(&told(&desk, "name", "", &[ONE]).await), "reserved", "as the task said");
    let waits = told(&desk, "config", "1000 1000 500 -", &[ONE; 2]).await;
    assert!(waits[0].1[0] <= 1_000.0, "at the configured rate, beginning with what was left: {waits:?}");
    let held: (String, String) = desk.ask(("HMGET", "l", "config", "inline")).await;
    assert_eq!(held, ("1000 1000 500 -".into(), "1 1000 1 -".into()));
}

#[tokio::test]
async fn a_clock_set_back_neither_fills_the_bucket_nor_holds_everyone_up() {
    let desk = Desk::new().await;
    told(&desk, "inline", "10 1000 1 -", &[ONE]).await;
    // The limit has seen a time an hour ahead: the clock was set back since.
    let seen: f64 = desk.ask(("HGET", "l", "last_now")).await;
    let full: f64 = desk.ask(("HGET", "l", "full_at")).await;
    let ahead = 3_600e6;
    let _: u64 = desk
        .ask(("HSET", "l", "last_now", format!("{:.2}", seen + ahead), "full_at", format!("{:.2}", full + ahead)))
        .await;
    let _: u64 = desk.ask(("DEL", "l:reserved")).await;
    let told = told(&desk, "inline", "10 1000 1 -", &[ONE]).await;
    assert_eq!(words(&told), "reserved");
    assert!((90_000.0..=100_000.0).contains(&told[0].1[0]), "{told:?}");
}
