//! extend_slots.lua: calls in flight go on.

use redial_core::script::limit::ExtendSlots;

use super::Desk;
use super::acquire::told;

#[tokio::test]
async fn an_extended_slot_lasts_and_one_that_ended_is_not_taken_again() {
    let desk = Desk::new().await;
    told(&desk, "inline", "- 1000 - 1", &[("1", "t1")]).await;
    let before: f64 = desk.ask(("ZSCORE", "l:slots", "t1")).await;
    let call = ExtendSlots { limit_key: "l", slots: "l:slots", slot_lease_ms: 60_000, tokens: &["t1", "gone"] };
    assert_eq!(desk.run(&call).await, 1);
    let after: f64 = desk.ask(("ZSCORE", "l:slots", "t1")).await;
    assert!(after > before + 40e6);
    assert_eq!(desk.ask::<u64>(("ZCARD", "l:slots")).await, 1);
}
