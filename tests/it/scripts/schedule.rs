//! schedule.lua: schedules put down and taken away.

use redial_core::script::{Invocation, SCHEDULE};

use super::{Desk, hash, sorted};

pub(crate) fn call(name: &str, header: &str, task: &str, next: &str) -> Invocation {
    SCHEDULE.call().key("schedules").key("firings").arg(name).arg(header).arg(task).arg(next)
}

#[tokio::test]
async fn a_schedule_is_put_down_changed_and_taken_away() {
    let desk = Desk::new().await;
    assert_eq!(desk.run::<u64>(&call("a", "hourly", "{1}", "1000")).await, 1000);
    assert_eq!(desk.run::<u64>(&call("b", "daily", "{}", "5000")).await, 5000);
    desk.changes_nothing(&call("a", "hourly", "{1}", "1000"), 1000_u64).await;
    // Another task at the same times: the next one is not skipped.
    assert_eq!(desk.run::<u64>(&call("a", "hourly", "{2}", "2000")).await, 1000);
    let dump = desk.dump().await;
    assert_eq!(dump["schedules"].0, hash(&[("a", "hourly\n{2}"), ("b", "daily\n{}")]));
    assert_eq!(dump["firings"].0, sorted(&[("a", 1000), ("b", 5000)]));
    assert_eq!(dump.len(), 2);
    // Other times.
    assert_eq!(desk.run::<u64>(&call("a", "daily", "{2}", "4000")).await, 4000);

    assert_eq!(desk.run::<u64>(&call("a", "", "", "")).await, 1);
    desk.changes_nothing(&call("a", "", "", ""), 0_u64).await;
    let dump = desk.dump().await;
    assert_eq!(dump["schedules"].0, hash(&[("b", "daily\n{}")]));
    assert_eq!(dump["firings"].0, sorted(&[("b", 5000)]));
}

#[tokio::test]
async fn one_that_came_to_its_end_gets_a_next_time_again() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "schedules", "a", "once\n{}")).await;
    assert_eq!(desk.run::<u64>(&call("a", "once", "{}", "2000")).await, 2000);
    assert_eq!(desk.dump().await["firings"].0, sorted(&[("a", 2000)]));
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["schedules", "firings"] {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("a", "hourly", "{}", "1000")).await;
        desk.refuses(&call("a", "", "", "")).await;
    }
}

#[tokio::test]
async fn a_full_redis_refuses_a_schedule_whole_and_lets_one_go() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "schedules", "a", "h\n{}")).await;
    let () = desk.ask(("ZADD", "firings", 1, "a")).await;
    let () = desk.ask(("CONFIG", "SET", "maxmemory", "1")).await;
    let before = desk.dump().await;
    assert!(desk.try_run::<u64>(&call("b", "h", "{}", "1000")).await.is_err());
    assert_eq!(desk.dump().await, before);
    assert_eq!(desk.run::<u64>(&call("a", "", "", "")).await, 1);
    assert!(desk.dump().await.is_empty());
}
