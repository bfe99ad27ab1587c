//! put_schedule.lua and remove_schedule.lua: schedules are added, changed and removed.

use redial_core::UnixMs;
use redial_core::script::schedule::{PutSchedule, RemoveSchedule};

use super::{Desk, hash, sorted};

fn call<'a>(name: &'a str, header: &'a str, task: &'a str, next_at_ms: u64) -> PutSchedule<'a> {
    PutSchedule { schedules: "schedules", firings: "firings", name, header, task, next_at_ms: UnixMs(next_at_ms) }
}

fn remove(name: &str) -> RemoveSchedule<'_> {
    RemoveSchedule { schedules: "schedules", firings: "firings", name }
}

#[tokio::test]
async fn a_schedule_is_added_changed_and_removed() {
    let desk = Desk::new().await;
    assert_eq!(desk.run(&call("a", "hourly", "{1}", 1000)).await, UnixMs(1000));
    assert_eq!(desk.run(&call("b", "daily", "{}", 5000)).await, UnixMs(5000));
    desk.changes_nothing(&call("a", "hourly", "{1}", 1000), UnixMs(1000)).await;
    // Another task at the same times: the next one is not skipped.
    assert_eq!(desk.run(&call("a", "hourly", "{2}", 2000)).await, UnixMs(1000));
    let dump = desk.dump().await;
    assert_eq!(dump["schedules"].0, hash(&[("a", "hourly\n{2}"), ("b", "daily\n{}")]));
    assert_eq!(dump["firings"].0, sorted(&[("a", 1000), ("b", 5000)]));
    assert_eq!(dump.len(), 2);
    // Other times.
    assert_eq!(desk.run(&call("a", "daily", "{2}", 4000)).await, UnixMs(4000));

    assert!(desk.run(&remove("a")).await);
    desk.changes_nothing(&remove("a"), false).await;
    let dump = desk.dump().await;
    assert_eq!(dump["schedules"].0, hash(&[("b", "daily\n{}")]));
    assert_eq!(dump["firings"].0, sorted(&[("b", 5000)]));
}

#[tokio::test]
async fn a_schedule_that_had_ended_gets_a_next_time_again() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "schedules", "a", "once\n{}")).await;
    assert_eq!(desk.run(&call("a", "once", "{}", 2000)).await, UnixMs(2000));
    assert_eq!(desk.dump().await["firings"].0, sorted(&[("a", 2000)]));
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["schedules", "firings"] {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("a", "hourly", "{}", 1000)).await;
        desk.refuses(&remove("a")).await;
    }
}

#[tokio::test]
async fn a_full_redis_refuses_a_schedule_whole_and_lets_one_be_removed() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "schedules", "a", "h\n{}")).await;
    let () = desk.ask(("ZADD", "firings", 1, "a")).await;
    let () = desk.ask(("CONFIG", "SET", "maxmemory", "1")).await;
    let before = desk.dump().await;
    assert!(desk.try_run(&call("b", "h", "{}", 1000)).await.is_err());
    assert_eq!(desk.dump().await, before);
    assert!(desk.run(&remove("a")).await);
    assert!(desk.dump().await.is_empty());
}
