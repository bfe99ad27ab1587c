//! reset_limit.lua: the bucket of a limit is filled, and the limit opened.

use redial_core::script::limit::{Adjust, ResetLimit};

use super::Desk;
use super::acquire::{told, words};

async fn reset(desk: &Desk) -> bool {
    desk.run(&ResetLimit { limit_key: "l", reserved: "l:reserved", queued: "l:queued" }).await
}

async fn adjust(desk: &Desk, close_us: u64, charge: f64, admitted_at: f64) {
    let (limit_key, reserved, cost, fairness_key) = ("l", "l:reserved", 1.0, "q");
    let (closed_by, remaining, said_by) = ("", None, "upstream");
    let call = Adjust {
        limit_key,
        reserved,
        close_us,
        closed_by,
        charge,
        cost,
        fairness_key,
        remaining,
        admitted_at,
        said_by,
    };
    desk.run(&call).await;
}

#[tokio::test]
async fn a_reset_limit_is_full_and_open_and_as_it_was_defined() {
    let desk = Desk::new().await;
    let asks = [("q", "1", 0, "t"); 8];
    let before = told(&desk, "inline", "1 1000000 5 2 usd", &[("q", "1", 0, "a"), ("q", "1", 0, "b")]).await;
    adjust(&desk, 60_000_000, 50.0, before[0].1[2]).await;
    assert!(reset(&desk).await);
    assert_eq!(desk.ask::<u64>(("ZCARD", "l:slots")).await, 2, "calls in flight go on");
    let _: u64 = desk.ask(("DEL", "l:slots")).await;
    let told = told(&desk, "inline", "1 1000000 5 - usd", &asks).await;
    assert_eq!(words(&told).matches("admitted").count(), 5, "{told:?}");
    // A call from before gives nothing back, or more than the burst would be admitted.
    adjust(&desk, 0, -1.0, before[0].1[2]).await;
    let _: u64 = desk.ask(("DEL", "l:reserved")).await;
    let next = super::acquire::told(&desk, "name", "", &asks[..1]).await;
    assert_eq!(words(&next), "reserved");
}

#[tokio::test]
async fn a_limit_that_is_not_there_stays_away() {
    let desk = Desk::new().await;
    assert!(!reset(&desk).await);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "l", "set", "1 1000 1 -")).await;
    let () = desk.ask(("SET", "l:reserved", "x")).await;
    desk.refuses(&ResetLimit { limit_key: "l", reserved: "l:reserved", queued: "l:queued" }).await;
}
