//! announce_waiting.lua: a limit learns in which queues calls wait.

use redial_core::script::limit::AnnounceWaiting;

use super::Desk;
use super::drain_limit::drain;

async fn announce(desk: &Desk, queue: &str) -> u64 {
    desk.run(&AnnounceWaiting { limit_key: "l", waiting: "l:waiting", queue, group: "g", ttl_ms: 60_000 }).await
}

#[tokio::test]
async fn a_queue_is_remembered_with_its_last_announcement() {
    let desk = Desk::new().await;
    let mut last = 0.0;
    for _ in 0..3 {
        assert_eq!(announce(&desk, "q").await, 0, "no one leads");
        let at: f64 = desk.ask(("HGET", "l:waiting", "q")).await;
        assert!(at > last);
        last = at;
        desk.pass(1).await;
    }
    assert_eq!(desk.ask::<u64>(("HLEN", "l:waiting")).await, 1);
    assert!(desk.ask::<i64>(("PTTL", "l:waiting")).await > 50_000);
}

#[tokio::test]
async fn whoever_announces_a_call_learns_how_long_a_leader_will_look_after_it() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "l", "inline", "1 1000 1 -")).await;
    announce(&desk, "q").await;
    drain(&desk, "w1", &[]).await;
    assert_eq!(announce(&desk, "q2").await, 3_000_000);
}
