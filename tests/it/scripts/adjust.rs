//! adjust.lua: a limit is corrected after a call.
#![expect(clippy::float_cmp, reason = "times in whole quarters of a microsecond")]

use redial_core::limit::Adjusted;
use redial_core::script::limit::{Adjust, InspectLimit};

use super::Desk;
use super::acquire::{ONE, told, wait_of_next};

/// Later than any grant.
const NOW: f64 = 1e18;

const NOTHING: Adjust<'_> = Adjust {
    limit_key: "l",
    close_us: 0,
    closed_by: "",
    charge: 0.0,
    cost: 1.0,
    remaining: None,
    granted_at: NOW,
    said_by: "upstream",
};

const STATUS: InspectLimit<'_> = InspectLimit { limit_key: "l", slots: "l:slots", waiting: "l:waiting" };

async fn adjust(desk: &Desk, close_us: u64, charge: f64, remaining: Option<f64>, granted_at: f64) -> Adjusted {
    desk.run(&Adjust { close_us, charge, remaining, granted_at, ..NOTHING }).await
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
    assert_eq!(next(&desk).await, 3e6);
}

#[tokio::test]
async fn an_additional_charge_is_paid_and_a_refund_comes_back() {
    let desk = Desk::new().await;
    next(&desk).await;
    adjust(&desk, 0, 14.0, None, NOW).await;
    assert_eq!(next(&desk).await, 600_000.0, "a debt of 5, and its own");
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
        // 100 in all at 10 a second, of which the bucket of 10 pays the first.
        assert_eq!(next(&desk).await, 9_100_000.0, "{charge}");
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

#[tokio::test]
async fn the_response_to_a_task_moves_only_a_limit_that_tasks_define() {
    for (source, is_refused) in [("config", true), ("inline", false)] {
        let desk = Desk::new().await;
        told(&desk, source, "10 1000 10 -", &[ONE]).await;
        for adjustment in [
            Adjust { close_us: 3_000_000, ..NOTHING },
            Adjust { charge: 50.0, ..NOTHING },
            Adjust { charge: -1.0, ..NOTHING },
            Adjust { remaining: Some(0.0), ..NOTHING },
        ] {
            desk.pass(1).await;
            let before = desk.dump().await;
            let of_task = desk.run(&Adjust { said_by: "task", ..adjustment }).await;
            assert_eq!(of_task == Adjusted::Refused, is_refused, "{source}: {adjustment:?}");
            assert_eq!(desk.dump().await == before, is_refused, "{source}: {adjustment:?}");
            for said_by in ["fleet", "upstream"] {
                assert_eq!(desk.run(&Adjust { said_by, ..adjustment }).await, Adjusted::Done);
            }
        }
    }
}

#[tokio::test]
async fn a_closed_limit_tells_since_when_and_why() {
    let desk = Desk::new().await;
    next(&desk).await;
    let now = desk.now().await;
    desk.run(&Adjust { close_us: 60_000_000, closed_by: "a.example answered 429", ..NOTHING }).await;
    let closed = desk.run(&STATUS).await;
    assert_eq!((closed.closed_since.0, closed.closed_us), (now, 60_000_000));
    desk.pass(1).await;
    assert_eq!(closed.closed_by, "a.example answered 429");
    // Whatever ends earlier changes nothing; whatever ends later is the reason from then on.
    desk.run(&Adjust { close_us: 10_000_000, closed_by: "sooner", ..NOTHING }).await;
    assert_eq!(desk.run(&STATUS).await.closed_by, "a.example answered 429");
    desk.run(&Adjust { close_us: 90_000_000, closed_by: "later", ..NOTHING }).await;
    let later = desk.run(&STATUS).await;
    assert_eq!((later.closed_since, later.closed_by.as_str()), (closed.closed_since, "later"));
}

#[tokio::test]
async fn what_a_smaller_burst_does_not_hold_is_not_given_back() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000000 10 -", &[("5", "t")]).await;
    let granted_at: f64 = desk.ask::<String>(("HGET", "l", "last_now")).await.parse().unwrap();
    desk.pass(1).await;
    // Five are left, of which the configuration lets three be taken at once.
    let went = told(&desk, "config", "1 1000000 3 -", &[ONE; 4]).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "granted").count(), 3);
    adjust(&desk, 0, -5.0, None, granted_at).await;
    assert_eq!(told(&desk, "name", "", &[ONE]).await[0].0, "waiting");
}

#[tokio::test]
async fn what_was_not_used_is_given_back_although_the_definition_has_changed() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000000 10 -", &[("9", "t")]).await;
    let granted_at: f64 = desk.ask::<String>(("HGET", "l", "last_now")).await.parse().unwrap();
    assert_eq!(told(&desk, "config", "2 1000000 10 -", &[("2", "t")]).await[0].0, "waiting");
    adjust(&desk, 0, -8.0, None, granted_at).await;
    let went = told(&desk, "name", "", &[ONE; 11]).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "granted").count(), 9);
}

#[tokio::test]
async fn fractions_of_a_cent_add_up_to_the_budget_and_not_to_a_call_more() {
    // 20 dollars a day. Each call is estimated at a cent and turns out to have cost 0.00012 dollars.
    let desk = Desk::new().await;
    let budget = "20 86400000 20 - usd";
    let (mut spent, cost) = (0.0, 0.00012);
    for _ in 0..200 {
        let told = told(&desk, "inline", budget, &[("0.01", "t")]).await;
        assert_eq!(told[0].0, "granted");
        let settled = Adjust { charge: cost - 0.01, cost: 0.01, ..NOTHING };
        assert_eq!(desk.run(&settled).await, Adjusted::Done);
        spent += cost;
    }
    let (full_at, now): (f64, f64) = desk.ask(("HMGET", "l", "full_at", "last_now")).await;
    let counted = (full_at - now) / 86_400e6 * 20.0;
    // Moments are whole quarters of a microsecond, which is worth 6e-11 dollars.
    assert!((counted - spent).abs() < 1e-7, "{counted} instead of {spent}");
}
