//! adjust.lua: a limit is corrected after a call.

use redial_core::limit::Adjusted;
use redial_core::script::limit::{Adjust, InspectLimit};

use super::Desk;
use super::acquire::told;

/// Later than any admission.
const NOW: f64 = 1e18;

const NOTHING: Adjust<'_> = Adjust {
    limit_key: "l",
    reserved: "l:reserved",
    close_us: 0,
    closed_by: "",
    charge: 0.0,
    cost: 1.0,
    fairness_key: "q",
    remaining: None,
    admitted_at: NOW,
    said_by: "upstream",
};

async fn adjust(desk: &Desk, close_us: u64, charge: f64, remaining: Option<f64>, admitted_at: f64) -> Adjusted {
    desk.run(&Adjust { close_us, charge, remaining, admitted_at, ..NOTHING }).await
}

/// How long the next call has to wait, in us.
async fn next(desk: &Desk) -> f64 {
    told(desk, "inline", "10 1000 10 -", &[("q", "1", 0, "t")]).await[0].1[0]
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
    let _: u64 = desk.ask(("DEL", "l:reserved")).await;
    let asks = [("q", "1", 0, "t"); 11];
    let went = told(&desk, "inline", "10 1000 10 -", &asks).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "admitted").count(), 10, "never more than a full bucket");
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
    let _: u64 = desk.ask(("DEL", "l:reserved")).await;
    let asks = [("q", "1", 0, "t"); 4];
    let went = told(&desk, "inline", "10 1000 10 -", &asks).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "admitted").count(), 2);
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
    told(&desk, "inline", "30000 60000 - -", &[("q", "1", 0, "t")]).await;
    assert_eq!(adjust(&desk, 0, 29_000.0, None, NOW).await, Adjusted::Done);
    let told = told(&desk, "inline", "30000 60000 - -", &[("q", "1", 0, "t")]).await;
    assert!((56_000_000.0..=58_000_000.0).contains(&told[0].1[0]), "{:?}", told[0]);
}

#[tokio::test]
async fn the_response_to_a_task_moves_only_a_limit_that_tasks_define() {
    for (source, is_refused) in [("config", true), ("inline", false)] {
        let desk = Desk::new().await;
        told(&desk, source, "10 1000 10 -", &[("q", "1", 0, "t")]).await;
        for adjustment in [
            Adjust { close_us: 3_000_000, ..NOTHING },
            Adjust { charge: 50.0, ..NOTHING },
            Adjust { charge: -1.0, ..NOTHING },
            Adjust { remaining: Some(0.0), ..NOTHING },
        ] {
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
    let status = async || {
        let call =
            InspectLimit { limit_key: "l", reserved: "l:reserved", slots: "l:slots", queued: "l:queued", max_keys: 0 };
        desk.run(&call).await
    };
    let (seconds, _): (u64, u64) = desk.ask("TIME").await;
    desk.run(&Adjust { close_us: 60_000_000, closed_by: "a.example answered 429", ..NOTHING }).await;
    let closed = status().await;
    assert!(closed.closed_since.0 >= seconds * 1_000 && closed.closed_us > 50_000_000, "{closed:?}");
    assert_eq!(closed.closed_by, "a.example answered 429");
    // Whatever ends earlier changes nothing; whatever ends later is the reason from then on.
    desk.run(&Adjust { close_us: 10_000_000, closed_by: "sooner", ..NOTHING }).await;
    assert_eq!(status().await.closed_by, "a.example answered 429");
    desk.run(&Adjust { close_us: 90_000_000, closed_by: "later", ..NOTHING }).await;
    let later = status().await;
    assert_eq!((later.closed_since, later.closed_by.as_str()), (closed.closed_since, "later"));
}

#[tokio::test]
async fn what_a_smaller_burst_does_not_hold_is_not_given_back() {
    let desk = Desk::new().await;
    let before = told(&desk, "inline", "1 1000000 10 -", &[("q", "5", 0, "t")]).await;
    // Five are left, of which the configuration lets three be taken at once.
    let asks = [("x", "1", 0, "t"); 4];
    let went = told(&desk, "config", "1 1000000 3 -", &asks).await;
    assert_eq!(went.iter().filter(|(word, _)| word == "admitted").count(), 3);
    adjust(&desk, 0, -5.0, None, before[0].1[2]).await;
    let _: u64 = desk.ask(("DEL", "l:reserved")).await;
    assert_eq!(told(&desk, "name", "", &asks[..1]).await[0].0, "reserved");
}

#[tokio::test]
async fn fractions_of_a_cent_add_up_to_the_budget_and_not_to_a_call_more() {
    // 20 dollars a day. Each call is estimated at a cent and turns out to have cost 0.00012 dollars.
    let desk = Desk::new().await;
    let budget = "20 86400000 20 - usd";
    let (mut spent, cost) = (0.0, 0.00012);
    for _ in 0..200 {
        let told = told(&desk, "inline", budget, &[("q", "0.01", 0, "t")]).await;
        assert_eq!(told[0].0, "admitted");
        let settled = Adjust { charge: cost - 0.01, cost: 0.01, admitted_at: told[0].1[2], ..NOTHING };
        assert_eq!(desk.run(&settled).await, Adjusted::Done);
        spent += cost;
    }
    let call =
        InspectLimit { limit_key: "l", reserved: "l:reserved", slots: "l:slots", queued: "l:queued", max_keys: 0 };
    let left = desk.run(&call).await.tokens_left.unwrap();
    // In the second that this takes, 20 / 86400 dollars are refilled. A quarter of a microsecond is worth 6e-11 dollars.
    let most = 20.0 - spent + 20.0 / 86_400.0 * 20.0;
    assert!(left >= 20.0 - spent - 1e-6 && left <= most, "{left} left of 20 after {spent}");
}
