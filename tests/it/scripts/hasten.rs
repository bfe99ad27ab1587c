//! hasten.lua: those that wait for a limit ask again.

use redial_core::script::HASTEN;

use super::Desk;

const FAR: u64 = 4_000_000_000_000;

async fn hasten(desk: &Desk, from: u64, count: u64) -> u64 {
    desk.run(&HASTEN.call().key("s").arg("\"slow\"").arg(from).arg(count)).await
}

async fn due(desk: &Desk) -> Vec<String> {
    desk.ask(("ZRANGEBYSCORE", "s", "-inf", FAR - 1)).await
}

#[tokio::test]
async fn only_those_that_wait_for_this_limit_are_made_due_over_many_parts() {
    let desk = Desk::new().await;
    for i in 0..7 {
        let name = if i % 2 == 0 { "slow" } else { "other" };
        let entry = format!("s{i} 1 0 0 {{\"r\":[[\"{name}\",5]]}}\n{{\"limit\":[\"slow\",1]}}");
        let _: u64 = desk.ask(("ZADD", "s", FAR + i, entry)).await;
    }
    let mut from = 0;
    loop {
        match hasten(&desk, from, 2).await {
            0 => break,
            seen => from += seen,
        }
    }
    assert_eq!((from, desk.ask::<u64>(("ZCARD", "s")).await), (7, 7));
    let due = due(&desk).await;
    assert_eq!(due.len(), 4);
    assert!(due.iter().all(|entry| entry.contains("r\":[[\"slow\"")), "{due:?}");
}

#[tokio::test]
async fn nothing_that_waits_is_nothing_to_do() {
    let desk = Desk::new().await;
    assert_eq!(hasten(&desk, 0, 10).await, 0);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}
