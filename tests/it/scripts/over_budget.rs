//! acquire.lua for calls that are willing to wait only so long.
#![expect(clippy::cast_possible_truncation, reason = "microseconds")]

use std::time::Duration;

use redial_core::limit::{Adjusted, WaitBound};
use redial_core::script::limit::Adjust;

use super::Desk;
use super::acquire::{Ask, told, told_bounded, words};

const ONE: Ask = ("q", "1", 0, "t");
const SPENT: WaitBound = WaitBound { max_wait: None, dies_when_spent: true };

fn at_most(wait: Duration) -> WaitBound {
    WaitBound { max_wait: Some(wait), dies_when_spent: false }
}

#[tokio::test]
async fn a_call_that_does_not_wait_for_a_spent_budget_is_told_so_and_takes_nothing() {
    let desk = Desk::new().await;
    let budget = "2 86400000 2 - usd";
    assert_eq!(words(&told_bounded(&desk, "inline", budget, &[ONE; 2], SPENT).await), "admitted admitted");
    let state = async || {
        let reserved: (Option<String>, u64) =
            (desk.ask(("ZSCORE", "l:reserved", "q")).await, desk.ask(("EXISTS", "l:queued")).await);
        (desk.ask::<String>(("HGET", "l", "full_at")).await, reserved)
    };
    let before = state().await;
    let told = told_bounded(&desk, "inline", budget, &[ONE; 2], SPENT).await;
    assert_eq!(words(&told), "over_budget over_budget");
    // A dollar takes half a day.
    assert!((43_000e6..=43_200e6).contains(&told[0].1[0]), "{told:?}");
    assert_eq!(state().await, before, "nothing is taken and nothing reserved");
    let next = super::acquire::told(&desk, "inline", budget, &[ONE]).await;
    assert!((next[0].1[0] - told[1].1[0]).abs() < 5e6, "another one waits for the first dollar: {next:?}");
}

#[tokio::test]
async fn a_call_waits_as_long_as_it_is_willing_to_and_those_before_it_count() {
    let desk = Desk::new().await;
    let rate = "1 1000 1 -";
    let waits = told_bounded(&desk, "inline", rate, &[ONE; 5], at_most(Duration::from_millis(2_500))).await;
    assert_eq!(words(&waits), "admitted reserved reserved over_budget over_budget");
    assert!((2_900_000.0..=3_000_000.0).contains(&waits[3].1[0]), "{waits:?}");
    // One that waits longer goes behind the two that wait.
    let patient = told(&desk, "inline", rate, &[ONE]).await;
    assert_eq!(words(&patient), "reserved");
    assert!((2_800_000.0..=3_000_000.0).contains(&patient[0].1[0]), "{patient:?}");
    let none = told_bounded(&desk, "inline", rate, &[ONE], at_most(Duration::ZERO)).await;
    assert_eq!(words(&none), "over_budget");
}

#[tokio::test]
async fn a_call_that_waited_for_a_slot_does_not_wait_for_what_others_have_booked() {
    let desk = Desk::new().await;
    let budget = "10 86400000 10 1 usd";
    let told = told_bounded(&desk, "inline", budget, &[("q", "1", 0, "a"), ("q", "1", 0, "b")], SPENT).await;
    assert_eq!(words(&told), "admitted reserved");
    // It comes late, as on a busy machine, when the slot is free.
    let _: u64 = desk.ask(("DEL", "l:slots")).await;
    let late = -(told[1].1[1].abs() as i64 - 5_000_000);
    assert_eq!(words(&told_bounded(&desk, "inline", budget, &[("q", "1", late, "b")], SPENT).await), "admitted");
}

#[tokio::test]
async fn a_closed_limit_is_not_a_spent_one() {
    let desk = Desk::new().await;
    told(&desk, "inline", "10 1000 10 -", &[ONE]).await;
    let closed = Adjust {
        limit_key: "l",
        reserved: "l:reserved",
        close_us: 3_000_000,
        closed_by: "",
        charge: 0.0,
        cost: 1.0,
        fairness_key: "q",
        remaining: None,
        admitted_at: 0.0,
        said_by: "task",
    };
    assert_eq!(desk.run(&closed).await, Adjusted::Done);
    assert_eq!(words(&told_bounded(&desk, "inline", "10 1000 10 -", &[ONE], SPENT).await), "reserved");
    let bound = WaitBound { max_wait: Some(Duration::from_secs(1)), ..SPENT };
    assert_eq!(words(&told_bounded(&desk, "inline", "10 1000 10 -", &[ONE], bound).await), "over_budget");
}

#[tokio::test]
async fn a_cost_that_can_never_be_met_is_told_as_such() {
    let desk = Desk::new().await;
    let told = told_bounded(&desk, "inline", "1 1000 2 -", &[("q", "3", 0, "t")], SPENT).await;
    assert_eq!(words(&told), "over_burst");
}

#[tokio::test]
async fn the_keys_of_an_idle_budget_are_gone_after_their_time() {
    let desk = Desk::new().await;
    let call = redial_core::script::limit::Acquire {
        idle_ttl_ms: 50,
        requests: &super::acquire::requests(&[ONE; 3], WaitBound::default()),
        ..super::acquire::call("inline", "100 1000 1 1 usd", &[])
    };
    desk.run(&call).await;
    let kept: Vec<String> = desk.ask(("KEYS", "*")).await;
    for key in &kept {
        assert_ne!(desk.ask::<i64>(("PTTL", key)).await, -1, "{key} stays for ever");
    }
    redial_tests::eventually(Duration::from_secs(10), || async {
        (desk.ask::<u64>(("EXISTS", "l")).await == 0).then_some(())
    })
    .await;
    // A day's budget that was spent is kept until it would be full again, twice over: else it could be spent again.
    told(&desk, "inline", "1 86400000 1 - usd", &[ONE]).await;
    let day_ms = 86_400_000;
    assert!((2 * day_ms - 5_000..=2 * day_ms).contains(&desk.ask::<i64>(("PTTL", "l")).await));
}
