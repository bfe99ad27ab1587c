//! inspect_limit.lua: the status of a limit.

use redial_core::script::limit::{InspectLimit, InspectLimitReply};

use super::Desk;
use super::acquire::told;

async fn inspect(desk: &Desk) -> InspectLimitReply {
    desk.run(&InspectLimit { limit_key: "l", slots: "l:slots", waiting: "l:waiting" }).await
}

#[tokio::test]
async fn the_status_has_source_tokens_left_and_who_waits_and_nothing_changes() {
    let desk = Desk::new().await;
    let (source, definition) = (String::new(), String::new());
    let (tokens_left, closed_us, in_flight, queues) = (None, 0, 0, Vec::new());
    let nothing = InspectLimitReply { source, definition, tokens_left, closed_us, in_flight, queues };
    assert_eq!(inspect(&desk).await, nothing);
    told(&desk, "config", "1 1000 2 5", &[("1", "t1"), ("1", "t2"), ("1", "t3")]).await;
    let () = desk.ask(("HSET", "l:waiting", "q1", "1")).await;
    let before = desk.dump().await;
    let InspectLimitReply { source, definition, tokens_left, closed_us, in_flight, queues } = inspect(&desk).await;
    assert_eq!((source.as_str(), definition.as_str(), closed_us, in_flight), ("config", "1 1000 2 5", 0, 2));
    assert_eq!(queues, ["q1"]);
    let left = tokens_left.unwrap();
    assert!((0.0..0.5).contains(&left), "{left}");
    assert_eq!(desk.dump().await, before);
}
