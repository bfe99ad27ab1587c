//! adjust.lua: a limit is corrected after a call.

use redial_core::limit::Adjusted;
use redial_core::script::limit::Adjust;

use super::Desk;
use super::acquire::{ONE, told, wait_of_next};

/// Later than any grant.
const NOW: f64 = 1e18;

async fn adjust(desk: &Desk, close_us: u64, charge: f64, remaining: Option<f64>, granted_at: f64) -> Adjusted {
    desk.run(&Adjust { limit_key: "l", close_us, charge, cost: 1.0, remaining, granted_at }).await
}

/// How long the next call has to wait, in us.
async fn next(desk: &Desk) -> f64 {
    wait_of_next(desk, "10 1000 10 -").await
}

#[tokio::test]
async fn a_closed_limit_admits_nothing_and_is_only_ever_closed_for_longer() {
    let desk = Desk::new().await;
    next(&desk).await;
    assert_eq!(adjust(&desk, 3_000_000, 0.0, None, NOW).await, Adjusted::Done);
    adjust(&desk, 1_000_000, 0.0, None, NOW).await;
    assert!((2_000_000.0..=3_000_000.0).contains(&next(&desk).await));
}

#[tokio::test]
async fn an_additional_charge_is_paid_and_a_refund_comes_back() {
    let desk = Desk::new().await;
    next(&desk).await;
    adjust(&desk, 0, 14.0, None, NOW).await;
    let wait = next(&desk).await;
    assert!((400_000.0..=600_000.0).contains(&wait), "a debt of 5: {wait}");
    adjust(&desk, 0, -1000.0, None, NOW).await;
    let left: String = desk.ask(("HGET", "l", "full_at")).await;
    assert!(left.parse::<f64>().unwrap() > 0.0);
    let asks = [ONE; 11];
    let went = told(&desk, "inline", "10 1000 10 -", &asks).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "granted").count(), 10, "never more than a full bucket");
}

#[tokio::test]
async fn what_was_taken_before_the_bucket_was_full_is_not_refunded() {
    let desk = Desk::new().await;
    next(&desk).await;
    let before: String = desk.ask(("HGET", "l", "full_at")).await;
    adjust(&desk, 0, -1.0, None, 1.0).await;
    assert_eq!(before, desk.ask::<String>(("HGET", "l", "full_at")).await);
}

#[tokio::test]
async fn the_upstreams_remaining_quota_limits_what_is_admitted_at_once() {
    let desk = Desk::new().await;
    next(&desk).await;
    adjust(&desk, 0, 0.0, Some(2.0), NOW).await;
    let asks = [ONE; 4];
    let went = told(&desk, "inline", "10 1000 10 -", &asks).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "granted").count(), 2);
}

#[tokio::test]
async fn a_limit_that_is_gone_stays_gone() {
    let desk = Desk::new().await;
    assert_eq!(adjust(&desk, 1, 1.0, Some(1.0), NOW).await, Adjusted::Gone);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}

#[tokio::test]
async fn an_unbelievable_usage_closes_the_limit_for_a_hundred_times_its_cost_and_no_longer() {
    for charge in [1e3, 1e12, 1e15, 1e300, f64::MAX] {
        let desk = Desk::new().await;
        next(&desk).await;
        assert_eq!(adjust(&desk, 0, charge, None, NOW).await, Adjusted::Capped, "{charge}");
        let wait = next(&desk).await;
        // 100 in all at 10 a second, of which the bucket of 10 pays the first.
        assert!((8_000_000.0..=9_100_000.0).contains(&wait), "{charge}: {wait}");
    }
}

#[tokio::test]
async fn a_usage_of_up_to_a_period_of_the_rate_is_believed_whatever_the_cost() {
    let desk = Desk::new().await;
    told(&desk, "inline", "30000 60000 - -", &[ONE]).await;
    assert_eq!(adjust(&desk, 0, 29_000.0, None, NOW).await, Adjusted::Done);
    let told = told(&desk, "inline", "30000 60000 - -", &[ONE]).await;
    assert!((56_000_000.0..=58_000_000.0).contains(&told[0].1), "{:?}", told[0]);
}
