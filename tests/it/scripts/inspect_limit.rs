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
    assert_eq!(inspect(&desk).await, InspectLimitReply::default());
    told(&desk, "inline", "1 1000 2 5 usd", &[("1", "t1"), ("1", "t2")]).await;
    told(&desk, "config", "1 1000 2 5", &[("1", "t3")]).await;
    let () = desk.ask(("HSET", "l:waiting", "q1", "1")).await;
    let before = desk.dump().await;
    let status = inspect(&desk).await;
    let InspectLimitReply { source, definition, set, config, inline, closed_us, in_flight, queues, .. } = &status;
    assert_eq!([source, definition], ["config", "1 1000 2 5"]);
    assert_eq!([set, config, inline], ["", "1 1000 2 5", "1 1000 2 5 usd"]);
    assert_eq!((*closed_us, *in_flight), (0, 2));
    assert_eq!(*queues, ["q1"]);
    assert!((55_000_000..=60_000_000).contains(&status.config_ends_in_us), "{status:?}");
    let left = status.tokens_left.unwrap();
    assert!((0.0..0.5).contains(&left), "{left}");
    assert_eq!(desk.dump().await, before);
}
