//! inspect_limit.lua: the status of a limit.

use redial_core::script::limit::{InspectLimit, InspectLimitReply};

use super::Desk;
use super::acquire::told;

async fn inspect(desk: &Desk, max_keys: usize) -> InspectLimitReply {
    let (limit_key, reserved, slots, queued) = ("l", "l:reserved", "l:slots", "l:queued");
    desk.run(&InspectLimit { limit_key, reserved, slots, queued, max_keys }).await
}

#[tokio::test]
async fn the_status_has_source_tokens_left_and_who_waits_and_nothing_changes() {
    let desk = Desk::new().await;
    assert_eq!(inspect(&desk, 10).await, InspectLimitReply::default());
    told(&desk, "inline", "1 1000 2 5 usd", &[("a", "1", 0, "t1"), ("a", "1", 0, "t2")]).await;
    told(&desk, "config", "1 1000 2 5", &[("b", "1", 0, "t3"), ("c", "1", 0, "t4")]).await;
    let before = desk.dump().await;
    let status = inspect(&desk, 10).await;
    let InspectLimitReply { source, definition, set, config, inline, closed_us, waiting_keys, in_flight, .. } = &status;
    assert_eq!([source, definition], ["config", "1 1000 2 5"]);
    assert_eq!([set, config, inline], ["", "1 1000 2 5", "1 1000 2 5 usd"]);
    assert_eq!((*closed_us, *waiting_keys, *in_flight), (0, 2, 2));
    assert!((55_000_000..=60_000_000).contains(&status.config_ends_in_us), "{status:?}");
    let left = status.tokens_left.unwrap();
    assert!((0.0..0.5).contains(&left), "{left}");
    assert!(status.clears_in_us > 500_000, "{status:?}");
    let mut waiting: Vec<&str> = status.waiting.iter().map(|(key, _)| key.as_str()).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, ["b", "c"]);
    assert!(status.waiting.iter().all(|(_, wait_us)| *wait_us > 0 && *wait_us <= status.clears_in_us), "{status:?}");
    assert_eq!(inspect(&desk, 1).await.waiting.len(), 1);
    assert_eq!(inspect(&desk, 0).await.waiting, []);
    assert_eq!(desk.dump().await, before);
}
