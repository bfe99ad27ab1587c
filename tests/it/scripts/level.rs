//! level.lua: how a limit stands.

use redial_core::script::LEVEL;

use super::Desk;
use super::acquire::{call, told};

type Level = (String, String, String, u64, u64, u64, u64);

async fn level(desk: &Desk) -> Level {
    desk.run(&LEVEL.call().key("l").key("l:flows").key("l:places")).await
}

#[tokio::test]
async fn a_limit_tells_its_source_what_is_left_and_who_waits_and_nothing_changes() {
    let desk = Desk::new().await;
    assert_eq!(level(&desk).await, (String::new(), String::new(), String::new(), 0, 0, 0, 0));
    told(&desk, &call("config", "1 1000 2 5", &[("a", "1", 0, "t1"), ("a", "1", 0, "t2"), ("b", "1", 0, "t3")])).await;
    let before = desk.dump().await;
    let (source, definition, left, closed, flows, in_flight, clears) = level(&desk).await;
    assert_eq!((source.as_str(), definition.as_str(), closed, flows, in_flight), ("config", "1 1000 2 5", 0, 2, 2));
    let left: f64 = left.parse().unwrap();
    assert!((0.0..0.5).contains(&left), "{left}");
    assert!(clears > 500_000, "{clears}");
    assert_eq!(desk.dump().await, before);
}
