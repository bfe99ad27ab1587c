//! wake_waiters.lua: tasks that wait for a limit become due.

use redial_core::script::limit::WakeWaiters;

use super::Desk;

const FAR: u64 = 4_000_000_000_000;

async fn wake(desk: &Desk, offset: usize, page_size: usize) -> usize {
    desk.run(&WakeWaiters { scheduled: "s", json_name: "\"slow\"", offset, page_size }).await
}

async fn due(desk: &Desk) -> Vec<String> {
    desk.ask(("ZRANGEBYSCORE", "s", "-inf", FAR - 1)).await
}

#[tokio::test]
async fn only_tasks_that_wait_for_this_limit_become_due_over_many_pages() {
    let desk = Desk::new().await;
    for i in 0..7 {
        let name = if i % 2 == 0 { "slow" } else { "other" };
        let entry = format!("s{i} 1 0 0 {{\"r\":[[\"{name}\",5]]}}\n{{\"limit\":[\"slow\",1]}}");
        let _: u64 = desk.ask(("ZADD", "s", FAR + i, entry)).await;
    }
    let mut from = 0;
    loop {
        match wake(&desk, from, 2).await {
            0 => break,
            seen => from += seen,
        }
    }
    assert_eq!((from, desk.ask::<usize>(("ZCARD", "s")).await), (7, 7));
    let due = due(&desk).await;
    assert_eq!(due.len(), 4);
    assert!(due.iter().all(|entry| entry.contains("r\":[[\"slow\"")), "{due:?}");
}

#[tokio::test]
async fn without_scheduled_tasks_nothing_happens() {
    let desk = Desk::new().await;
    assert_eq!(wake(&desk, 0, 10).await, 0);
    assert_eq!(desk.ask::<u64>("DBSIZE").await, 0);
}
