//! define.lua: say by hand what a limit is.

use redial_core::script::DEFINE;

use super::Desk;
use super::acquire::{call, told};

async fn define(desk: &Desk, text: &str) -> u8 {
    desk.run(&DEFINE.call().key("l").key("l:flows").key("l:lines").arg(text).arg(60_000)).await
}

#[tokio::test]
async fn what_is_said_by_hand_counts_at_once_until_it_is_taken_back() {
    let desk = Desk::new().await;
    assert_eq!(define(&desk, "").await, 0);
    assert_eq!(define(&desk, "1000 1000 5 -").await, 1);
    let asks = [("q", "1", 0, "t"); 5];
    let told = told(&desk, &call("config", "1 1000 1 -", &asks)).await;
    assert!(told.iter().all(|(word, _)| word == "go"), "{told:?}");
    assert_eq!(desk.ask::<i64>(("PTTL", "l")).await, -1);
    assert_eq!(define(&desk, "").await, 1);
    let held: Option<String> = desk.ask(("HGET", "l", "set")).await;
    assert_eq!(held, None);
    assert_eq!(desk.ask::<i64>(("PTTL", "l")).await, -1, "the configuration's stays");
}

#[tokio::test]
async fn what_no_one_defines_any_more_goes_away() {
    let desk = Desk::new().await;
    define(&desk, "1 1000 1 -").await;
    define(&desk, "").await;
    // An empty hash is none at all.
    assert_eq!(desk.ask::<u64>(("EXISTS", "l")).await, 0);
}

#[tokio::test]
async fn what_is_missing_in_the_bucket_is_the_same_under_another_rate() {
    let desk = Desk::new().await;
    // One is taken of one in a thousand seconds: under ten a second that is a tenth of a second.
    told(&desk, &call("inline", "1 1000000 1 -", &[("q", "1", 0, "t")])).await;
    define(&desk, "10 1000 1 -").await;
    let next = told(&desk, &call("inline", "1 1000000 1 -", &[("q", "1", 0, "t")])).await;
    assert!(next[0].1[0] <= 100_000.0, "{next:?}");
}
