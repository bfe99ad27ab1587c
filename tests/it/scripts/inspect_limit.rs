//! inspect_limit.lua: the status of a limit.

use redial_core::script::limit::{InspectLimit, InspectLimitReply};

use super::Desk;
use super::acquire::told;

async fn inspect(desk: &Desk) -> InspectLimitReply {
    desk.run(&InspectLimit { limit_key: "l", reserved: "l:reserved", slots: "l:slots" }).await
}

#[tokio::test]
async fn the_status_has_source_tokens_left_and_who_waits_and_nothing_changes() {
    let desk = Desk::new().await;
    let (source, definition) = (String::new(), String::new());
    let nothing = (None, 0, 0, 0, 0);
    let (tokens_left, closed_us, waiting_keys, in_flight, clears_in_us) = nothing;
    assert_eq!(
        inspect(&desk).await,
        InspectLimitReply { source, definition, tokens_left, closed_us, waiting_keys, in_flight, clears_in_us }
    );
    told(&desk, "config", "1 1000 2 5", &[("a", "1", 0, "t1"), ("a", "1", 0, "t2"), ("b", "1", 0, "t3")]).await;
    let before = desk.dump().await;
    let InspectLimitReply { source, definition, tokens_left, closed_us, waiting_keys, in_flight, clears_in_us: clears } =
        inspect(&desk).await;
    assert_eq!(
        (source.as_str(), definition.as_str(), closed_us, waiting_keys, in_flight),
        ("config", "1 1000 2 5", 0, 2, 2)
    );
    let left = tokens_left.unwrap();
    assert!((0.0..0.5).contains(&left), "{left}");
    assert!(clears > 500_000, "{clears}");
    assert_eq!(desk.dump().await, before);
}
