//! acquire.lua: a limit is asked for calls. The arithmetic is compared with a model on this Redis's clock.
#![expect(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "small counts, and times in whole quarters of a microsecond"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use redial_core::UnixMs;
use redial_core::limit::{Acquired, Grant, WaitBound};
use redial_core::script::limit::{Acquire, AcquireRequest};

use super::Desk;

/// A request without priority: cost, token.
pub(super) type Ask<'a> = (&'a str, &'a str);

pub(super) const ONE: Ask = ("1", "t");

pub(super) fn requests<'a>(asks: &[Ask<'a>]) -> Vec<AcquireRequest<'a>> {
    bounded(asks, WaitBound::default())
}

/// Requests of calls that are willing to wait only so long.
pub(super) fn bounded<'a>(asks: &[Ask<'a>], wait_bound: WaitBound) -> Vec<AcquireRequest<'a>> {
    let request = |&(cost, token): &Ask<'a>| AcquireRequest {
        cost: cost.parse().unwrap(),
        token,
        has_priority: false,
        delay_us: 0,
        returned_at: None,
        wait_bound,
    };
    asks.iter().map(request).collect()
}

pub(super) fn call<'a>(source: &'a str, definition: &'a str, requests: &'a [AcquireRequest<'a>]) -> Acquire<'a> {
    Acquire {
        limit_key: "l",
        slots: "l:slots",
        waiting: "l:waiting",
        source,
        definition,
        lead_us: 0,
        window_us: 10_000,
        slot_lease_ms: 8_000,
        idle_ttl_ms: 60_000,
        stated_at_ms: UnixMs(0),
        requests,
    }
}

/// A word for each answer, and a number: how long until its moment, or until it may go, in us; or the burst.
fn in_words(Acquired { now, grants }: Acquired) -> Vec<(String, f64)> {
    let word = |grant| match grant {
        Grant::Granted { at, .. } => ("granted".to_owned(), at - now),
        Grant::Waiting(wait) => ("waiting".to_owned(), wait.as_micros() as f64),
        Grant::OverBurst(burst) => ("over_burst".to_owned(), burst),
        Grant::Undefined => ("undefined".to_owned(), 0.0),
        Grant::OverBudget(wait) => ("over_budget".to_owned(), wait.as_micros() as f64),
    };
    grants.into_iter().map(word).collect()
}

pub(super) async fn told(desk: &Desk, source: &str, definition: &str, asks: &[Ask<'_>]) -> Vec<(String, f64)> {
    told_bounded(desk, source, definition, asks, WaitBound::default()).await
}

/// The same for calls that are willing to wait only so long. Of the configuration, the last one counts.
pub(super) async fn told_bounded(
    desk: &Desk,
    source: &str,
    definition: &str,
    asks: &[Ask<'_>],
    bound: WaitBound,
) -> Vec<(String, f64)> {
    static CONFIGURED: AtomicU64 = AtomicU64::new(1_000);
    let configured = if source == "config" { CONFIGURED.fetch_add(1, Ordering::Relaxed) } else { 0 };
    let requests = bounded(asks, bound);
    let call = Acquire { stated_at_ms: UnixMs(configured), ..call(source, definition, &requests) };
    in_words(desk.run(&call).await)
}

pub(super) fn words(told: &[(String, f64)]) -> String {
    told.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(" ")
}

/// How long a call that does not wait behind others would have to wait, in us; 0 if it is granted at once.
pub(super) async fn wait_of_next(desk: &Desk, definition: &str) -> f64 {
    told(desk, "inline", definition, &[ONE]).await[0].1
}

#[tokio::test]
async fn the_burst_is_granted_at_once_and_the_rest_waits_in_its_queue() {
    let desk = Desk::new().await;
    let told = told(&desk, "inline", "10 1000 3 -", &[ONE; 6]).await;
    assert_eq!(words(&told), "granted granted granted waiting waiting waiting");
    let numbers: Vec<f64> = told.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, [0.0, 0.0, 0.0, 100_000.0, 0.0, 0.0], "those behind one that waits wait for it");
    let left: i64 = desk.ask(("PTTL", "l")).await;
    assert!(left > 50_000, "kept beyond its use: {left}");
    let full_at: f64 = desk.ask(("HGET", "l", "full_at")).await;
    let now: f64 = desk.ask(("HGET", "l", "last_now")).await;
    assert_eq!(full_at - now, 300_000.0, "those that wait have booked nothing");
}

#[tokio::test]
async fn grants_lie_ahead_of_time_as_far_as_the_way_takes_and_the_window_allows() {
    let desk = Desk::new().await;
    let requests = requests(&[ONE; 8]);
    let ahead = Acquire { lead_us: 200_000, window_us: 350_000, ..call("inline", "10 1000 2 -", &requests) };
    let told = in_words(desk.run(&ahead).await);
    assert_eq!(words(&told), "granted granted granted granted granted waiting waiting waiting");
    let moments: Vec<f64> = told.iter().take(5).map(|(_, number)| *number).collect();
    assert_eq!(moments, [200_000.0, 200_000.0, 300_000.0, 400_000.0, 500_000.0]);
}

#[tokio::test]
async fn nothing_is_granted_while_others_wait_except_to_a_call_that_has_waited() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "l:waiting", "q", "1")).await;
    assert_eq!(words(&told(&desk, "inline", "10 1000 3 -", &[ONE]).await), "waiting");
    let mut requests = requests(&[ONE; 2]);
    requests[1].has_priority = true;
    assert_eq!(words(&in_words(desk.run(&call("inline", "10 1000 3 -", &requests)).await)), "waiting granted");
}

#[tokio::test]
async fn a_grant_that_comes_too_late_goes_back_with_the_question_for_a_new_one() {
    let desk = Desk::new().await;
    let mut ask = requests(&[ONE]);
    let first = desk.run(&call("inline", "1 1000 1 -", &ask)).await;
    let Grant::Granted { at, .. } = first.grants[0] else { panic!("{first:?}") };
    ask[0] = AcquireRequest { has_priority: true, delay_us: 5_000, returned_at: Some(at), ..ask[0] };
    let again = desk.run(&call("inline", "1 1000 1 -", &ask)).await;
    let Grant::Granted { at: later, .. } = again.grants[0] else { panic!("{again:?}") };
    assert_eq!(later, again.now + 5_000.0, "its own share, at the moment that it can use");
    assert!(wait_of_next(&desk, "1 1000 1 -").await >= 1e6, "and nobody else's");
}

#[tokio::test]
async fn a_changed_definition_counts_for_the_next_question_and_forgets_nothing() {
    let desk = Desk::new().await;
    told(&desk, "config", "1 1000 50 -", &[ONE; 50]).await;
    let wait = told(&desk, "config", "100 1000 50 -", &[ONE]).await[0].1;
    assert_eq!(wait, 10_000.0, "at the new rate");
    let slow = told(&desk, "config", "1 1000 50 -", &[ONE]).await[0].1;
    assert!((900_000.0..=2_100_000.0).contains(&slow), "{slow}");
}

#[tokio::test]
async fn no_window_ever_has_more_than_burst_and_rate_whatever_the_rate_and_however_far_ahead() {
    for (rate, burst) in [("0.3", 1.0), ("1", 1.0), ("1.5", 2.0), ("7.3", 5.0), ("1000", 10.0)] {
        let desk = Desk::new().await;
        let definition = format!("{rate} 1000 {burst} -");
        let per_us = rate.parse::<f64>().unwrap() / 1e6;
        let mut went: Vec<f64> = Vec::new();
        let requests = requests(&[ONE; 5]);
        for n in 0..40 {
            // Now from near by, now from afar.
            let lead_us = [0, 300_000, 20_000][n % 3];
            let asked = Acquire { lead_us, ..call("inline", &definition, &requests) };
            let Acquired { now, grants } = desk.run(&asked).await;
            for grant in grants {
                if let Grant::Granted { at, .. } = grant {
                    assert!(at >= now + lead_us as f64 - 1.0);
                    went.push(at);
                }
            }
        }
        went.sort_by(f64::total_cmp);
        for first in 0..went.len() {
            for last in first..went.len() {
                let span = went[last] - went[first] + 1.0;
                let most = burst + per_us * span;
                assert!((last - first + 1) as f64 <= most, "{} in {span} us at {rate}", last - first + 1);
            }
        }
    }
}

#[tokio::test]
async fn a_cost_above_a_stated_burst_is_refused_and_takes_nothing() {
    let desk = Desk::new().await;
    let told = told(&desk, "inline", "10 1000 2 -", &[("3", "t"), ("2", "t")]).await;
    assert_eq!(words(&told), "over_burst granted");
}

#[tokio::test]
async fn a_cost_that_would_take_years_to_refill_is_refused_and_takes_nothing() {
    for cost in ["1e9", "1e300", "1.7e308"] {
        let desk = Desk::new().await;
        let told = told(&desk, "inline", "10 1000 - -", &[(cost, "t"), ("10", "t")]).await;
        assert_eq!(words(&told), "over_burst granted", "{cost}");
    }
}

#[tokio::test]
async fn slots_are_counted_by_token_and_taken_in_turn() {
    let desk = Desk::new().await;
    let asks = [("1", "t1"), ("1", "t2"), ("1", "t1"), ("1", "t3"), ("1", "t4")];
    assert_eq!(words(&told(&desk, "inline", "- 1000 - 2", &asks).await), "granted granted granted waiting waiting");
    assert_eq!(desk.ask::<u64>(("ZCARD", "l:slots")).await, 2);
}

#[tokio::test]
async fn without_a_free_slot_nothing_of_the_rate_is_used() {
    let desk = Desk::new().await;
    let asks = [("1", "t1"), ("1", "t2"), ("1", "t3")];
    assert_eq!(words(&told(&desk, "inline", "1 1000 3 1", &asks).await), "granted waiting waiting");
    let (full_at, now): (f64, f64) = desk.ask(("HMGET", "l", "full_at", "last_now")).await;
    assert_eq!(full_at - now, 1e6);
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
    assert_eq!(words(&told(&desk, "name", "", &[ONE]).await), "waiting", "as the task said");
    let waits = told(&desk, "config", "1000 1000 500 -", &[ONE]).await;
    assert_eq!(waits, [("granted".to_owned(), 1_000.0)], "at its rate, beginning with what was left");
    let held: (String, String) = desk.ask(("HMGET", "l", "config", "inline")).await;
    assert_eq!(held, ("1000 1000 500 -".into(), "1 1000 1 -".into()));
}

#[tokio::test]
async fn a_clock_set_back_neither_fills_the_bucket_nor_holds_everyone_up() {
    let desk = Desk::new().await;
    told(&desk, "inline", "10 1000 1 -", &[ONE]).await;
    desk.pass(-3_600_000).await;
    let told = told(&desk, "inline", "10 1000 1 -", &[ONE]).await;
    assert_eq!(words(&told), "waiting");
    assert_eq!(told[0].1, 100_000.0);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    for key in ["l", "l:slots", "l:waiting"] {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("inline", "1 1000 1 1", &requests(&[ONE]))).await;
    }
}
