//! release_slots.lua: calls in flight end, or go on.

use redial_core::script::RELEASE_SLOTS;

use super::Desk;
use super::acquire::{call, told};

async fn give(desk: &Desk, keep_ms: u64, tokens: &[(&str, u64)]) -> u64 {
    let call = RELEASE_SLOTS.call().key("l").key("l:places").arg(keep_ms);
    desk.run(&tokens.iter().fold(call, |call, (token, took)| call.arg(token).arg(took))).await
}

#[tokio::test]
async fn a_place_that_is_given_back_is_free_and_only_once() {
    let desk = Desk::new().await;
    told(&desk, &call("inline", "- 1000 - 1", &[("q", "1", 0, "t1")])).await;
    assert_eq!(give(&desk, 0, &[("t1", 500_000), ("other", 0)]).await, 1);
    let took: f64 = desk.ask(("HGET", "l", "took")).await;
    assert!((took - 180_000.0).abs() < 1.0, "100 ms, a fifth of the way to 500: {took}");
    assert_eq!(give(&desk, 0, &[("t1", 0)]).await, 0);
    let next = told(&desk, &call("inline", "- 1000 - 1", &[("q", "1", 0, "t2")])).await;
    assert_eq!(next[0].0, "go");
}

#[tokio::test]
async fn a_place_that_is_kept_lasts_and_one_that_ended_is_not_taken_again() {
    let desk = Desk::new().await;
    told(&desk, &call("inline", "- 1000 - 1", &[("q", "1", 0, "t1")])).await;
    let before: f64 = desk.ask(("ZSCORE", "l:places", "t1")).await;
    assert_eq!(give(&desk, 60_000, &[("t1", 0), ("gone", 0)]).await, 1);
    let after: f64 = desk.ask(("ZSCORE", "l:places", "t1")).await;
    assert!(after > before + 40e6);
    assert_eq!(desk.ask::<u64>(("ZCARD", "l:places")).await, 1);
}
