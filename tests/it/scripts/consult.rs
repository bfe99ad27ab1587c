//! consult.lua: reports the outcomes of calls to a breaker and asks it about further ones.

use std::time::Duration;

use redial_core::breaker::BreakerRequest::{First, ReservedRetry, Retry, WaitList};
use redial_core::breaker::{BreakerReply, BreakerRequest, Decision};
use redial_core::consumer::Selection;
use redial_core::script::breaker::Consult;

use super::Desk;

/// What became of calls: good, bad, bad since the last good one, and whether any was good.
type Tally = (u64, u64, u64, u8);

const NOTHING: Tally = (0, 0, 0, 0);
const DOWN: Tally = (0, 20, 20, 0);

/// 20 calls, of which 80 % failed; 5 s between probes; 20 % and 10/s retries.
fn call(epoch: u64, tally: Tally, requests: &[BreakerRequest]) -> Consult<'_> {
    Consult {
        breaker_key: "b",
        min_calls: 20,
        failure_ratio: 0.8,
        probe_interval_ms: 5_000,
        retry_ratio: 0.2,
        retries_per_s: 10.0,
        epoch,
        good: tally.0,
        bad: tally.1,
        trailing: tally.2,
        any_good: tally.3 == 1,
        requests,
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap()
}

/// Epoch, state, and for each request how many are admitted, how many ms to wait, and whether it is a probe.
async fn told(desk: &Desk, call: &Consult<'_>) -> (u64, String, Vec<(usize, u64, bool)>) {
    let BreakerReply { status, decisions } = desk.run(call).await;
    let decision = |Decision { admit, retry_in, is_probe }: Decision| {
        let admitted = if let Selection::Next(admitted) = admit { admitted } else { 1 };
        (admitted, millis(retry_in), is_probe)
    };
    (status.epoch, status.state.as_str().to_owned(), decisions.into_iter().map(decision).collect())
}

/// How many go, of all who ask.
async fn gone(desk: &Desk, call: &Consult<'_>) -> usize {
    told(desk, call).await.2.iter().map(|(admitted, _, _)| admitted).sum()
}

#[tokio::test]
async fn an_unknown_breaker_is_closed_and_admits_all_first_calls() {
    let desk = Desk::new().await;
    let (epoch, state, asks) = told(&desk, &call(0, NOTHING, &[First; 50])).await;
    assert_eq!((epoch, state.as_str()), (0, "closed"));
    assert_eq!(asks, [(1, 0, false); 50]);
    let left: i64 = desk.ask(("PTTL", "b")).await;
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_breaker_opens_when_twenty_calls_fail_in_a_row_or_four_of_five_in_ten_seconds() {
    for (tallies, expected) in [
        (vec![(0, 19, 19, 0)], "closed"),
        (vec![(0, 19, 19, 0), (0, 1, 1, 0)], "open"),
        (vec![(0, 19, 19, 0), (1, 1, 0, 1), (0, 1, 1, 0)], "open"), // 21 of 22
        (vec![(20, 0, 0, 1), (0, 19, 19, 0)], "closed"),
        (vec![(5, 25, 5, 1)], "open"),
        (vec![(6, 20, 5, 1)], "closed"),
        (vec![(50, 50, 3, 1)], "closed"),
    ] {
        let desk = Desk::new().await;
        for tally in &tallies {
            told(&desk, &call(0, *tally, &[])).await;
        }
        assert_eq!(told(&desk, &call(0, NOTHING, &[])).await.1, expected, "{tallies:?}");
    }
    let desk = Desk::new().await;
    told(&desk, &call(0, (0, 19, 0, 1), &[])).await;
    desk.pass(30_000).await;
    assert_eq!(told(&desk, &call(0, (0, 5, 5, 0), &[])).await.1, "closed", "what was half a minute ago counts little");
}

#[tokio::test]
async fn an_open_breaker_admits_one_call_per_probe_interval_whatever_becomes_of_it() {
    let desk = Desk::new().await;
    let (epoch, state, asks) = told(&desk, &call(0, DOWN, &[First, Retry, ReservedRetry])).await;
    assert_eq!((epoch, state.as_str()), (1, "open"));
    assert!(asks.iter().all(|(go, wait, _)| *go == 0 && (1..=1_000).contains(wait)), "{asks:?}");
    desk.pass(1_000).await;
    for probe in 1..4 {
        let (_, _, asks) = told(&desk, &call(1, NOTHING, &[First, First, Retry])).await;
        assert_eq!(asks[0], (1, 0, true), "probe {probe}: it costs no attempt");
        assert!(asks[1..].iter().all(|(go, wait, _)| *go == 0 && *wait == 5_000), "{asks:?}");
        desk.pass(3_000).await;
        // It fails late: the next one is so far from that moment.
        assert_eq!(gone(&desk, &call(1, (0, 1, 1, 0), &[First])).await, 0);
        desk.pass(5_000).await;
    }
    // After ten minutes they are a minute apart, and no further.
    desk.pass(1_200_000).await;
    let (_, _, asks) = told(&desk, &call(1, NOTHING, &[First, First])).await;
    assert_eq!(asks[0], (1, 0, false), "by now it costs one");
    assert_eq!(asks[1].1, 60_000);
}

#[tokio::test]
async fn calls_admitted_before_it_opened_neither_close_it_nor_open_it_again() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    assert_eq!(told(&desk, &call(0, (5, 0, 0, 1), &[])).await.1, "open");
    desk.pass(5_000).await;
    assert_eq!(told(&desk, &call(1, (1, 0, 0, 1), &[])).await.1, "half_open");
    assert_eq!(told(&desk, &call(0, (0, 50, 50, 0), &[])).await.1, "half_open");
}

#[tokio::test]
async fn a_good_probe_half_opens_the_breaker_and_a_used_up_step_doubles() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    desk.pass(5_000).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &[First])).await, 1);
    assert_eq!(told(&desk, &call(1, (1, 0, 0, 1), &[])).await.1, "half_open");
    for allowed in [10, 20, 40] {
        assert_eq!(gone(&desk, &call(1, NOTHING, &[Retry; 60])).await, allowed);
        desk.pass(500).await;
    }
    assert_eq!(gone(&desk, &call(1, NOTHING, &[First; 7])).await, 7);
    desk.pass(500).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &[First; 99])).await, 80, "not used up: not doubled");
    // Late by a minute, it is one step, not a hundred.
    desk.pass(5_000).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &[First; 300])).await, 160);
}

#[tokio::test]
async fn a_wait_list_drains_as_the_steps_allow_and_the_breaker_closes_when_no_task_waits() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &[WaitList(500)])).await, 0);
    desk.pass(5_000).await;
    let (_, _, asks) = told(&desk, &call(1, NOTHING, &[WaitList(500), WaitList(3), First])).await;
    assert_eq!((asks[0].0, asks[1].0, asks[2].0), (1, 0, 1), "one for the probe, of all lines: the first");
    desk.pass(5_000).await;
    let reply = desk.run(&call(1, NOTHING, &[WaitList(500)])).await;
    assert_eq!(reply.decisions[0].admit, Selection::Last, "which was not called yet");
    told(&desk, &call(1, (1, 0, 0, 1), &[])).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &[WaitList(4), WaitList(500), WaitList(9)])).await, 10);
    assert_eq!(gone(&desk, &call(1, NOTHING, &[First; 10])).await, 10);
    desk.pass(500).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &[WaitList(500)])).await, 20);
    assert_eq!(told(&desk, &call(1, NOTHING, &[WaitList(0)])).await.1, "half_open");
    desk.pass(1_000).await;
    let (_, state, asks) = told(&desk, &call(1, NOTHING, &[WaitList(0), WaitList(700)])).await;
    assert_eq!((state.as_str(), asks[1]), ("closed", (700, 0, false)));
}

#[tokio::test]
async fn a_half_open_breaker_that_meets_failures_opens_again_and_the_outage_goes_on() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    desk.pass(60_000).await;
    told(&desk, &call(1, (1, 0, 0, 1), &[])).await;
    assert_eq!(told(&desk, &call(1, (0, 15, 15, 0), &[])).await.1, "half_open", "it may be that each first call fails");
    desk.pass(1_000).await;
    let (epoch, state, _) = told(&desk, &call(1, (0, 1, 1, 0), &[First])).await;
    assert_eq!((epoch, state.as_str()), (2, "open"));
    desk.pass(1_000).await;
    let (_, _, asks) = told(&desk, &call(2, NOTHING, &[First, First])).await;
    let asks = &asks[1..];
    assert_eq!(asks[0].1, 10_334, "a sixth of the minute and two seconds");
}

#[tokio::test]
async fn retries_are_a_fifth_of_the_first_calls_and_ten_a_second_and_the_rest_get_times() {
    let desk = Desk::new().await;
    let (_, _, asks) = told(&desk, &call(0, (100, 100, 1, 1), &[Retry; 60])).await;
    let went = asks.iter().filter(|(go, _, _)| *go == 1).count();
    assert_eq!(went, 50, "10 and a fifth of 200");
    let waits: Vec<u64> = asks[50..].iter().map(|(_, wait, _)| *wait).collect();
    // 10 a second, and as 200 came in ten seconds, 4 more.
    assert!(waits.is_sorted() && waits[0] == 72 && waits[9] == 715, "{waits:?}");
    // Who was given a time goes before who was not.
    desk.pass(100).await;
    let (_, _, asks) = told(&desk, &call(0, NOTHING, &[Retry, ReservedRetry])).await;
    assert_eq!([asks[0].0, asks[1].0], [0, 1]);
    desk.pass(60_000).await;
    assert_eq!(gone(&desk, &call(0, NOTHING, &[ReservedRetry; 60])).await, 10, "a budget is not saved up");
}

#[tokio::test]
async fn a_retry_waits_a_moment_while_first_calls_fail_in_a_row() {
    let desk = Desk::new().await;
    let (_, _, asks) = told(&desk, &call(0, (0, 3, 3, 0), &[Retry, First])).await;
    assert_eq!(asks[1], (1, 0, false));
    assert_eq!(asks[0], (0, 1_000, false));
    desk.pass(1_000).await;
    assert_eq!(gone(&desk, &call(0, NOTHING, &[ReservedRetry])).await, 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_moves_all_times_with_it() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[First])).await;
    desk.pass(-3_600_000).await;
    let (_, state, asks) = told(&desk, &call(1, NOTHING, &[First])).await;
    assert!(state == "open" && asks[0].1 <= 5_000, "{state} {asks:?}");
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "b", "something else")).await;
    desk.refuses(&call(0, DOWN, &[First])).await;
}
