//! release_slots.lua: calls in flight end.

use redial_core::script::limit::ReleaseSlots;

use super::Desk;
use super::acquire::told;

async fn release(desk: &Desk, tokens: &[&str]) -> (u64, bool) {
    desk.run(&ReleaseSlots { limit_key: "l", slots: "l:slots", waiting: "l:waiting", tokens }).await
}

#[tokio::test]
async fn a_released_slot_is_free_and_only_once() {
    let desk = Desk::new().await;
    told(&desk, "inline", "- 1000 - 1", &[("1", "t1")]).await;
    assert_eq!(release(&desk, &["t1", "other"]).await, (1, false));
    assert_eq!(release(&desk, &["t1"]).await, (0, false));
    let next = told(&desk, "inline", "- 1000 - 1", &[("1", "t2")]).await;
    assert_eq!(next[0].0, "granted");
}

#[tokio::test]
async fn whoever_releases_a_slot_learns_that_calls_wait_for_it() {
    let desk = Desk::new().await;
    told(&desk, "inline", "- 1000 - 1", &[("1", "t1")]).await;
    let () = desk.ask(("HSET", "l:waiting", "q", "1")).await;
    assert_eq!(release(&desk, &["t1"]).await, (1, true));
}
