//! fire_schedule.lua: the task of a schedule is pushed once for each of its times.

use redial_core::UnixMs;
use redial_core::script::schedule::FireSchedule;

use super::{Desk, hash, list, sorted};

const TASK: &str = "{\"url\":\n \"http://h/\",\"n\":9007199254740993}";

fn call(header: &str, due_at_ms: u64, next_at_ms: Option<u64>) -> FireSchedule<'_> {
    FireSchedule {
        schedules: "schedules",
        firings: "firings",
        waiting: "waiting",
        stats: "stats",
        name: "a",
        header,
        due_at_ms: UnixMs(due_at_ms),
        next_at_ms: next_at_ms.map(UnixMs),
        task_start: "{\"id\":\"a@1\",",
    }
}

async fn desk(due: u64) -> Desk {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "schedules", "a", format!("daily\n{TASK}"))).await;
    let () = desk.ask(("ZADD", "firings", due, "a", 5_000, "other")).await;
    desk
}

#[tokio::test]
async fn each_time_pushes_one_task_however_many_workers_try() {
    let desk = desk(1_000).await;
    let () = desk.ask(("LPUSH", "waiting", "another's")).await;
    assert!(desk.run(&call("daily", 1_000, Some(2000))).await);
    let dump = desk.dump().await;
    let pushed = format!("{{\"id\":\"a@1\",{}", &TASK[1..]);
    assert_eq!(dump["waiting"], (list(&[pushed.as_str(), "another's"]), false));
    assert_eq!(dump["firings"].0, sorted(&[("a", 2_000), ("other", 5_000)]));
    assert_eq!(dump["stats"].0, hash(&[("fired", "1")]));
    assert_eq!(dump["schedules"].0, hash(&[("a", format!("daily\n{TASK}"))]));
    assert_eq!(dump.len(), 4);
    // Another worker, or a copy that comes late.
    desk.changes_nothing(&call("daily", 1_000, Some(2000)), false).await;
    assert!(desk.run(&call("daily", 2_000, Some(3000))).await);
    desk.changes_nothing(&call("daily", 1_000, Some(2000)), false).await;
    desk.changes_nothing(&call("daily", 2_000, Some(3000)), false).await;
}

#[tokio::test]
async fn a_schedule_that_is_not_due_or_has_changed_is_not_fired() {
    let desk = desk(1_000).await;
    desk.changes_nothing(&call("hourly", 1_000, Some(2000)), false).await;
    let later = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "firings", later, "a")).await;
    desk.changes_nothing(&call("daily", later, Some(9_999_999_999_999)), false).await;
    let () = desk.ask(("ZREM", "firings", "a")).await;
    desk.changes_nothing(&call("daily", 1_000, Some(2000)), false).await;
    let () = desk.ask(("ZADD", "firings", 1_000, "a")).await;
    let () = desk.ask(("DEL", "schedules")).await;
    desk.changes_nothing(&call("daily", 1_000, Some(2000)), false).await;
}

#[tokio::test]
async fn the_last_time_of_a_schedule_leaves_it_without_a_next_one() {
    let desk = desk(1_000).await;
    assert!(desk.run(&call("daily", 1_000, None)).await);
    let dump = desk.dump().await;
    assert_eq!(dump["firings"].0, sorted(&[("other", 5_000)]));
    assert!(dump.contains_key("schedules"), "it can still be looked at");
    desk.changes_nothing(&call("daily", 1_000, None), false).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["schedules", "firings", "waiting"] {
        let desk = desk(1_000).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("daily", 1_000, Some(2000))).await;
    }
}

#[tokio::test]
async fn a_full_redis_refuses_a_firing_whole_and_the_schedule_stays_due() {
    let desk = desk(1_000).await;
    let before = desk.dump().await;
    let () = desk.ask(("CONFIG", "SET", "maxmemory", "1")).await;
    assert!(desk.try_run(&call("daily", 1_000, Some(2000))).await.is_err());
    assert_eq!(desk.dump().await, before);
}
