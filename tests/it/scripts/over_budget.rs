//! acquire.lua and drain_limit.lua for calls that are willing to wait only so long.

use std::time::Duration;

use redial_core::limit::{Adjusted, Grant, WaitBound};
use redial_core::script::limit::{Acquire, Adjust};

use super::Desk;
use super::acquire::{ONE, bounded, call, told, told_bounded, words};

const SPENT: WaitBound = WaitBound { max_wait: None, dies_when_spent: true };

fn at_most(wait: Duration) -> WaitBound {
    WaitBound { max_wait: Some(wait), dies_when_spent: false }
}

#[tokio::test]
async fn a_call_that_does_not_wait_for_a_spent_budget_is_told_so_and_takes_nothing() {
    let desk = Desk::new().await;
    let budget = "2 86400000 2 - usd";
    assert_eq!(words(&told_bounded(&desk, "inline", budget, &[ONE; 2], SPENT).await), "granted granted");
    let before: String = desk.ask(("HGET", "l", "full_at")).await;
    let told = told_bounded(&desk, "inline", budget, &[ONE; 2], SPENT).await;
    assert_eq!(words(&told), "over_budget over_budget");
    // A dollar takes half a day.
    assert!((43_000e6..=43_200e6).contains(&told[0].1), "{told:?}");
    assert_eq!(desk.ask::<String>(("HGET", "l", "full_at")).await, before, "nothing is taken");
}

#[tokio::test]
async fn a_call_that_waits_in_its_queue_is_told_so_when_its_turn_comes() {
    let desk = Desk::new().await;
    told(&desk, "inline", "2 86400000 2 - usd", &[ONE]).await;
    let () = desk.ask(("HSET", "l:waiting", "q", "1.00")).await;
    let calls: Vec<_> = [true, true, false, true]
        .into_iter()
        .enumerate()
        .map(|(n, dies_when_spent)| redial_core::script::limit::WaitingCall {
            cost: 1.0,
            token: ["a", "b", "c", "d"][n],
            dies_when_spent,
        })
        .collect();
    let reply = desk.run(&super::drain_limit::call("w", &calls)).await;
    assert!(matches!(reply.grants[..], [Grant::Granted { .. }, Grant::OverBudget(_)]), "{reply:?}");
    assert!(reply.next_in > Duration::from_secs(40_000), "the third waits: {reply:?}");
}

#[tokio::test]
async fn a_call_waits_as_long_as_it_is_willing_to() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000 1 -", &[ONE]).await;
    for (bound, expected) in [
        (Duration::ZERO, "over_budget"),
        (Duration::from_millis(500), "over_budget"),
        (Duration::from_millis(1_500), "waiting"),
    ] {
        assert_eq!(words(&told_bounded(&desk, "inline", "1 1000 1 -", &[ONE], at_most(bound)).await), expected);
    }
}

#[tokio::test]
async fn a_closed_limit_is_not_a_spent_one() {
    let desk = Desk::new().await;
    told(&desk, "inline", "10 1000 10 -", &[ONE]).await;
    let closed = Adjust {
        limit_key: "l",
        close_us: 3_000_000,
        closed_by: "",
        charge: 0.0,
        cost: 1.0,
        remaining: None,
        granted_at: 0.0,
        said_by: "task",
    };
    assert_eq!(desk.run(&closed).await, Adjusted::Done);
    assert_eq!(words(&told_bounded(&desk, "inline", "10 1000 10 -", &[ONE], SPENT).await), "waiting");
    let bound = WaitBound { max_wait: Some(Duration::from_secs(1)), ..SPENT };
    assert_eq!(words(&told_bounded(&desk, "inline", "10 1000 10 -", &[ONE], bound).await), "over_budget");
}

#[tokio::test]
async fn a_cost_that_can_never_be_met_is_told_as_such() {
    let desk = Desk::new().await;
    let told = told_bounded(&desk, "inline", "1 1000 2 -", &[("3", "t")], SPENT).await;
    assert_eq!(words(&told), "over_burst");
}

#[tokio::test]
async fn the_keys_of_an_idle_budget_are_gone_after_their_time() {
    let desk = Desk::new().await;
    let requests = bounded(&[ONE; 3], WaitBound::default());
    desk.run(&Acquire { idle_ttl_ms: 50, ..call("inline", "100 1000 1 1 usd", &requests) }).await;
    let kept: Vec<String> = desk.ask(("KEYS", "*")).await;
    for key in &kept {
        assert_ne!(desk.ask::<i64>(("PTTL", key)).await, -1, "{key} stays for ever");
    }
    desk.pass(1_000).await;
    assert_eq!(desk.ask::<u64>(("EXISTS", "l")).await, 0);
    desk.pass(86_400_000).await;
    assert_eq!(desk.ask::<Vec<String>>(("KEYS", "*")).await, Vec::<String>::new(), "slots are kept for a day");
    // A day's budget that was spent is kept until it would be full again, twice over: else it could be spent again.
    told(&desk, "inline", "1 86400000 1 - usd", &[ONE]).await;
    let day_ms = 86_400_000;
    assert_eq!(desk.ask::<i64>(("PTTL", "l")).await, 2 * day_ms);
}
