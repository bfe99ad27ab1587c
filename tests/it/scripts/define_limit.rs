//! define_limit.lua: a limit is defined by hand.

use redial_core::script::limit::DefineLimit;

use super::Desk;
use super::acquire::{ONE, told};

async fn define(desk: &Desk, definition: &str) -> bool {
    desk.run(&DefineLimit { limit_key: "l", definition, idle_ttl_ms: 60_000 }).await
}

#[tokio::test]
async fn a_definition_by_hand_is_in_force_at_once_until_it_is_removed() {
    let desk = Desk::new().await;
    assert!(!define(&desk, "").await);
    assert!(define(&desk, "1000 1000 5 -").await);
    let asks = [ONE; 5];
    let told = told(&desk, "config", "1 1000 1 -", &asks).await;
    assert!(told.iter().all(|(word, _)| word == "granted"), "{told:?}");
    assert_eq!(desk.ask::<i64>(("PTTL", "l")).await, -1);
    assert!(define(&desk, "").await);
    let held: Option<String> = desk.ask(("HGET", "l", "set")).await;
    assert_eq!(held, None);
    assert_eq!(desk.ask::<i64>(("PTTL", "l")).await, -1, "the configuration's stays");
}

#[tokio::test]
async fn a_limit_that_no_one_defines_any_longer_goes_away() {
    let desk = Desk::new().await;
    define(&desk, "1 1000 1 -").await;
    define(&desk, "").await;
    // Redis removes an empty hash.
    assert_eq!(desk.ask::<u64>(("EXISTS", "l")).await, 0);
}

#[tokio::test]
async fn tokens_missing_from_the_bucket_are_missing_under_another_rate_too() {
    let desk = Desk::new().await;
    // One is taken of one in a thousand seconds: under ten a second that is a tenth of a second.
    told(&desk, "inline", "1 1000000 1 -", &[ONE]).await;
    define(&desk, "10 1000 1 -").await;
    let next = told(&desk, "inline", "1 1000000 1 -", &[ONE]).await;
    assert!(next[0].1 <= 100_000.0, "{next:?}");
}
