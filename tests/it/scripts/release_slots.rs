//! release_slots.lua: calls in flight end.

use redial_core::script::limit::{EndedCall, ReleaseSlots};

use super::Desk;
use super::acquire::told;

async fn release(desk: &Desk, calls: &[(&str, u64)]) -> u64 {
    let calls: Vec<_> = calls.iter().map(|&(token, call_us)| EndedCall { token, call_us }).collect();
    desk.run(&ReleaseSlots { limit_key: "l", slots: "l:slots", calls: &calls }).await
}

#[tokio::test]
async fn a_released_slot_is_free_and_only_once() {
    let desk = Desk::new().await;
    told(&desk, "inline", "- 1000 - 1", &[("q", "1", 0, "t1")]).await;
    assert_eq!(release(&desk, &[("t1", 500_000), ("other", 0)]).await, 1);
    let took: f64 = desk.ask(("HGET", "l", "avg_call_us")).await;
    assert!((took - 180_000.0).abs() < 1.0, "100 ms, a fifth of the way to 500: {took}");
    assert_eq!(release(&desk, &[("t1", 0)]).await, 0);
    let next = told(&desk, "inline", "- 1000 - 1", &[("q", "1", 0, "t2")]).await;
    assert_eq!(next[0].0, "admitted");
}
