//! reset_limit.lua: the bucket of a limit is filled, and the limit opened.

use redial_core::script::limit::{Adjust, ResetLimit};

use super::Desk;
use super::acquire::{ONE, told, words};

const RESET: ResetLimit<'_> = ResetLimit { limit_key: "l" };

async fn adjust(desk: &Desk, close_us: u64, charge: f64, granted_at: f64) {
    let (limit_key, cost, closed_by, remaining, said_by) = ("l", 1.0, "", None, "upstream");
    desk.run(&Adjust { limit_key, close_us, closed_by, charge, cost, remaining, granted_at, said_by }).await;
}

#[tokio::test]
async fn a_reset_limit_is_full_and_open_and_as_it_was_defined() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000000 5 2 usd", &[("1", "a"), ("1", "b")]).await;
    let granted_at: f64 = desk.ask::<String>(("HGET", "l", "last_now")).await.parse().unwrap();
    adjust(&desk, 60_000_000, 50.0, granted_at).await;
    assert!(desk.run(&RESET).await);
    assert_eq!(desk.ask::<u64>(("ZCARD", "l:slots")).await, 2, "calls in flight go on");
    let _: u64 = desk.ask(("DEL", "l:slots")).await;
    let asks = [("1", "c"), ("1", "d"), ("1", "e")];
    assert_eq!(words(&told(&desk, "name", "", &asks).await), "granted granted waiting", "two at a time, as before");
}

#[tokio::test]
async fn a_call_from_before_gives_nothing_back() {
    let desk = Desk::new().await;
    told(&desk, "inline", "1 1000000 5 -", &[ONE; 2]).await;
    let granted_at: f64 = desk.ask::<String>(("HGET", "l", "last_now")).await.parse().unwrap();
    assert!(desk.run(&RESET).await);
    let went = told(&desk, "name", "", &[ONE; 8]).await;
    assert_eq!(words(&went).matches("granted").count(), 5, "{went:?}");
    adjust(&desk, 0, -1.0, granted_at).await;
    assert_eq!(words(&told(&desk, "name", "", &[ONE]).await), "waiting");
}

#[tokio::test]
async fn a_limit_that_is_not_there_stays_away() {
    let desk = Desk::new().await;
    assert!(!desk.run(&RESET).await);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "l", "x")).await;
    desk.refuses(&RESET).await;
}
