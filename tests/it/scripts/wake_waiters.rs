//! wake_waiters.lua: tasks that wait for a limit become due.

use redial_core::script::limit::WakeWaiters;

use super::Desk;

const FAR: u64 = 4_000_000_000_000;

fn call(serials: &[String], max_bytes: usize) -> WakeWaiters<'_> {
    WakeWaiters { scheduled: "s", stored: "stored", json_name: "\"slow\"", max_bytes, serials }
}

async fn due(desk: &Desk) -> Vec<String> {
    desk.ask(("ZRANGEBYSCORE", "s", "-inf", FAR - 1)).await
}

/// Seven tasks, every second of which waits for the limit `slow`.
async fn desk() -> (Desk, Vec<String>) {
    let desk = Desk::new().await;
    let mut serials = Vec::new();
    for i in 0..7 {
        let name = if i % 2 == 0 { "slow" } else { "other" };
        let entry = format!("s{i} 1 0 0 {{\"r\":[[\"{name}\",5]]}}\n{{\"limit\":[\"slow\",1]}}");
        let _: u64 = desk.ask(("ZADD", "s", FAR + i, format!("s{i}"))).await;
        let _: u64 = desk.ask(("HSET", "stored", format!("s{i}"), entry)).await;
        serials.push(format!("s{i}"));
    }
    (desk, serials)
}

#[tokio::test]
async fn only_tasks_that_wait_for_this_limit_become_due() {
    let (desk, serials) = desk().await;
    assert_eq!(desk.run(&call(&serials, 1 << 20)).await, 7);
    assert_eq!(due(&desk).await, ["s0", "s2", "s4", "s6"]);
    assert_eq!(desk.ask::<usize>(("ZCARD", "s")).await, 7);
}

#[tokio::test]
async fn the_task_that_reaches_the_byte_limit_is_the_last_one() {
    let (desk, serials) = desk().await;
    assert_eq!(desk.run(&call(&serials, 60)).await, 2);
    assert_eq!(desk.run(&call(&serials[2..], 1)).await, 1);
    assert_eq!(due(&desk).await, ["s0", "s2"]);
}

#[tokio::test]
async fn a_task_that_is_not_scheduled_stays_where_it_is() {
    let (desk, serials) = desk().await;
    let _: u64 = desk.ask(("ZREM", "s", "s0")).await;
    let _: u64 = desk.ask(("HDEL", "stored", "s2")).await;
    assert_eq!(desk.run(&call(&serials, 1 << 20)).await, 7);
    assert_eq!(due(&desk).await, ["s4", "s6"]);
}

#[tokio::test]
async fn without_scheduled_tasks_nothing_happens() {
    let desk = Desk::new().await;
    assert_eq!(desk.run(&call(&["gone".to_owned()], 10)).await, 1);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}
