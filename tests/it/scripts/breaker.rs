//! breaker.lua: what became of calls, and leave for further ones. Time is made to pass by what is noted of it.

use redial_core::script::{BREAKER, Invocation};

use super::Desk;

/// What became of calls: good, bad, bad since the last good one, and whether any was good.
type Tally = (u32, u32, u32, u8);

const NOTHING: Tally = (0, 0, 0, 0);
const DOWN: Tally = (0, 20, 20, 0);

/// 20 calls, of which 80 % failed; 5 s between probes; 20 % and 10/s retries.
fn call(epoch: u32, tally: Tally, asks: &[&str]) -> Invocation {
    let call = BREAKER.call().key("b").arg(20).arg(0.8).arg(5_000).arg(0.2).arg(10).arg(epoch);
    let call = call.arg(tally.0).arg(tally.1).arg(tally.2).arg(tally.3);
    asks.iter().fold(call, |call, ask| call.arg(ask))
}

/// Epoch, state, and for each who asks how many go and how long to wait.
async fn told(desk: &Desk, call: &Invocation) -> (i64, String, Vec<(i64, i64)>) {
    let reply: Vec<redis::Value> = desk.run(call).await;
    let number = |value: &redis::Value| redis::from_redis_value_ref::<i64>(value).unwrap();
    let asks = reply[3..].chunks(2).map(|pair| (number(&pair[0]), number(&pair[1]))).collect();
    (number(&reply[0]), redis::from_redis_value_ref(&reply[1]).unwrap(), asks)
}

/// How many go, of all who ask.
async fn gone(desk: &Desk, call: &Invocation) -> i64 {
    told(desk, call).await.2.iter().map(|(go, _)| go).sum()
}

/// Lets time pass.
async fn pass(desk: &Desk, ms: i64) {
    for field in ["since", "probe", "step", "refused", "failed", "began", "back", "at", "turn"] {
        let () = desk.ask(("HINCRBYFLOAT", "b", field, -ms)).await;
    }
}

#[tokio::test]
async fn a_breaker_of_which_nothing_is_known_is_closed_and_all_first_calls_go() {
    let desk = Desk::new().await;
    let (epoch, state, asks) = told(&desk, &call(0, NOTHING, &["first"; 50])).await;
    assert_eq!((epoch, state.as_str()), (0, "closed"));
    assert_eq!(asks, [(1, 0); 50]);
    let left: i64 = desk.ask(("PTTL", "b")).await;
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
}

#[tokio::test]
async fn it_opens_when_twenty_fail_in_a_row_or_four_of_five_in_ten_seconds() {
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
    pass(&desk, 30_000).await;
    assert_eq!(told(&desk, &call(0, (0, 5, 5, 0), &[])).await.1, "closed", "what was half a minute ago counts little");
}

#[tokio::test]
async fn an_open_one_lets_one_go_in_the_time_between_probes_whatever_becomes_of_it() {
    let desk = Desk::new().await;
    let (epoch, state, asks) = told(&desk, &call(0, DOWN, &["first", "retry", "again"])).await;
    assert_eq!((epoch, state.as_str()), (1, "open"));
    assert!(asks.iter().all(|(go, wait)| *go == 0 && (1..=1_000).contains(wait)), "{asks:?}");
    pass(&desk, 1_000).await;
    for probe in 1..4 {
        let (_, _, asks) = told(&desk, &call(1, NOTHING, &["first", "first", "retry"])).await;
        assert_eq!(asks[0], (1, 1), "probe {probe}: it costs no attempt");
        assert!(asks[1..].iter().all(|(go, wait)| *go == 0 && (4_900..=5_000).contains(wait)), "{asks:?}");
        pass(&desk, 3_000).await;
        // It fails late: the next one is so far from that moment.
        assert_eq!(gone(&desk, &call(1, (0, 1, 1, 0), &["first"])).await, 0);
        pass(&desk, 5_000).await;
    }
    // After ten minutes they are a minute apart, and no further.
    pass(&desk, 3_600_000).await;
    let (_, _, asks) = told(&desk, &call(1, NOTHING, &["first", "first"])).await;
    assert_eq!(asks[0], (1, 0), "by now it costs one");
    assert!((50_000..=60_000).contains(&asks[1].1), "{asks:?}");
}

#[tokio::test]
async fn what_was_let_go_before_it_opened_neither_closes_it_nor_opens_it_again() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    assert_eq!(told(&desk, &call(0, (5, 0, 0, 1), &[])).await.1, "open");
    pass(&desk, 5_000).await;
    assert_eq!(told(&desk, &call(1, (1, 0, 0, 1), &[])).await.1, "ramp");
    assert_eq!(told(&desk, &call(0, (0, 50, 50, 0), &[])).await.1, "ramp");
}

#[tokio::test]
async fn a_good_probe_starts_a_ramp_that_doubles_when_all_of_a_step_was_used() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    pass(&desk, 5_000).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &["first"])).await, 1);
    assert_eq!(told(&desk, &call(1, (1, 0, 0, 1), &[])).await.1, "ramp");
    for allowed in [10, 20, 40] {
        assert_eq!(gone(&desk, &call(1, NOTHING, &["retry"; 60])).await, allowed);
        pass(&desk, 500).await;
    }
    assert_eq!(gone(&desk, &call(1, NOTHING, &["first"; 7])).await, 7);
    pass(&desk, 500).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &["first"; 99])).await, 80, "not used up: not doubled");
    // Late by a minute, it is one step, not a hundred.
    pass(&desk, 5_000).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &["first"; 300])).await, 160);
}

#[tokio::test]
async fn a_line_is_let_run_as_the_ramp_allows_and_the_breaker_closes_when_no_one_waits() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &["line 500"])).await, 0);
    pass(&desk, 5_000).await;
    let (_, _, asks) = told(&desk, &call(1, NOTHING, &["line 500", "line 3", "first"])).await;
    assert_eq!((asks[0].0, asks[1].0, asks[2].0), (1, 0, 1), "one for the probe, of all lines: the first");
    pass(&desk, 5_000).await;
    let reply: Vec<redis::Value> = desk.run(&call(1, NOTHING, &["line 500"])).await;
    let which: String = redis::from_redis_value_ref(&reply[3]).unwrap();
    assert_eq!(which, "last", "which was not called yet");
    told(&desk, &call(1, (1, 0, 0, 1), &[])).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &["line 4", "line 500", "line 9"])).await, 10);
    assert_eq!(gone(&desk, &call(1, NOTHING, &["first"; 10])).await, 10);
    pass(&desk, 500).await;
    assert_eq!(gone(&desk, &call(1, NOTHING, &["line 500"])).await, 20);
    assert_eq!(told(&desk, &call(1, NOTHING, &["line 0"])).await.1, "ramp");
    pass(&desk, 1_000).await;
    let (_, state, asks) = told(&desk, &call(1, NOTHING, &["line 0", "line 700"])).await;
    assert_eq!((state.as_str(), asks[1]), ("closed", (700, 0)));
}

#[tokio::test]
async fn a_ramp_that_meets_failures_opens_again_and_the_outage_goes_on() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &[])).await;
    pass(&desk, 60_000).await;
    told(&desk, &call(1, (1, 0, 0, 1), &[])).await;
    assert_eq!(told(&desk, &call(1, (0, 15, 15, 0), &[])).await.1, "ramp", "it may be that each first call fails");
    pass(&desk, 1_000).await;
    let (epoch, state, _) = told(&desk, &call(1, (0, 1, 1, 0), &["first"])).await;
    assert_eq!((epoch, state.as_str()), (2, "open"));
    pass(&desk, 1_000).await;
    let (_, _, asks) = told(&desk, &call(2, NOTHING, &["first", "first"])).await;
    let asks = &asks[1..];
    assert!((9_000..=13_000).contains(&asks[0].1), "a sixth of the minute: {asks:?}");
}

#[tokio::test]
async fn retries_are_a_fifth_of_the_first_calls_and_ten_a_second_and_the_rest_is_given_times() {
    let desk = Desk::new().await;
    let (_, _, asks) = told(&desk, &call(0, (100, 100, 1, 1), &["retry"; 60])).await;
    let went = asks.iter().filter(|(go, _)| *go == 1).count();
    assert_eq!(went, 50, "10 and a fifth of 200");
    let waits: Vec<i64> = asks[50..].iter().map(|(_, wait)| *wait).collect();
    // 10 a second, and as 200 came in ten seconds, 4 more.
    assert!(waits.is_sorted() && (70..=73).contains(&waits[0]) && (700..=730).contains(&waits[9]), "{waits:?}");
    // Who was given a time goes before who was not.
    pass(&desk, 100).await;
    let (_, _, asks) = told(&desk, &call(0, NOTHING, &["retry", "again"])).await;
    assert_eq!([asks[0].0, asks[1].0], [0, 1]);
    pass(&desk, 60_000).await;
    assert_eq!(gone(&desk, &call(0, NOTHING, &["again"; 60])).await, 10, "a budget is not saved up");
}

#[tokio::test]
async fn a_retry_waits_a_moment_while_first_calls_fail_in_a_row() {
    let desk = Desk::new().await;
    let (_, _, asks) = told(&desk, &call(0, (0, 3, 3, 0), &["retry", "first"])).await;
    assert_eq!(asks[1], (1, 0));
    assert!(asks[0].0 == 0 && (900..=1_000).contains(&asks[0].1), "{asks:?}");
    pass(&desk, 1_000).await;
    assert_eq!(gone(&desk, &call(0, NOTHING, &["again"])).await, 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_takes_all_times_along() {
    let desk = Desk::new().await;
    told(&desk, &call(0, DOWN, &["first"])).await;
    pass(&desk, -3_600_000).await;
    let (_, state, asks) = told(&desk, &call(1, NOTHING, &["first"])).await;
    assert!(state == "open" && asks[0].1 <= 5_000, "{state} {asks:?}");
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "b", "something else")).await;
    desk.refuses(&call(0, DOWN, &["first"])).await;
}
