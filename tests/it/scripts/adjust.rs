//! adjust.lua: what was learnt after a call.

use redial_core::script::ADJUST;

use super::Desk;
use super::acquire::{call, told};

/// After all takes.
const NOW: f64 = 1e18;

async fn adjust(desk: &Desk, closed_us: u64, cost: f64, at_most: &str, let_go_at: f64) -> u8 {
    let call = ADJUST.call().key("l").key("l:flows").arg(closed_us).arg(cost).arg("q").arg(at_most).arg(let_go_at);
    desk.run(&call).await
}

/// How long the next call has to wait, in us.
async fn next(desk: &Desk) -> f64 {
    told(desk, &call("inline", "10 1000 10 -", &[("q", "1", 0, "t")])).await[0].1[0]
}

#[tokio::test]
async fn a_limit_that_is_closed_lets_nothing_go_and_is_only_ever_closed_for_longer() {
    let desk = Desk::new().await;
    next(&desk).await;
    assert_eq!(adjust(&desk, 3_000_000, 0.0, "", NOW).await, 1);
    adjust(&desk, 1_000_000, 0.0, "", NOW).await;
    assert!((2_000_000.0..=3_000_000.0).contains(&next(&desk).await));
}

#[tokio::test]
async fn what_was_taken_besides_is_paid_and_what_was_not_comes_back() {
    let desk = Desk::new().await;
    next(&desk).await;
    adjust(&desk, 0, 14.0, "", NOW).await;
    let wait = next(&desk).await;
    assert!((400_000.0..=600_000.0).contains(&wait), "a debt of 5: {wait}");
    adjust(&desk, 0, -1000.0, "", NOW).await;
    let left: String = desk.ask(("HGET", "l", "full")).await;
    assert!(left.parse::<f64>().unwrap() > 0.0);
    let _: u64 = desk.ask(("DEL", "l:flows")).await;
    let asks = [("q", "1", 0, "t"); 11];
    let went = told(&desk, &call("inline", "10 1000 10 -", &asks)).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "go").count(), 10, "never more than a full bucket");
}

#[tokio::test]
async fn what_was_taken_before_the_bucket_was_full_is_not_given_back() {
    let desk = Desk::new().await;
    next(&desk).await;
    let before: String = desk.ask(("HGET", "l", "full")).await;
    adjust(&desk, 0, -1.0, "", 1.0).await;
    assert_eq!(before, desk.ask::<String>(("HGET", "l", "full")).await);
}

#[tokio::test]
async fn what_the_upstream_has_left_bounds_what_goes_at_once() {
    let desk = Desk::new().await;
    next(&desk).await;
    adjust(&desk, 0, 0.0, "2", NOW).await;
    let _: u64 = desk.ask(("DEL", "l:flows")).await;
    let asks = [("q", "1", 0, "t"); 4];
    let went = told(&desk, &call("inline", "10 1000 10 -", &asks)).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "go").count(), 2);
}

#[tokio::test]
async fn a_limit_that_is_gone_learns_nothing() {
    let desk = Desk::new().await;
    assert_eq!(adjust(&desk, 1, 1.0, "1", NOW).await, 0);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}
