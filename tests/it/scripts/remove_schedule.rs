//! remove_schedule.lua: a schedule is removed, and others stay. More of it is in `put_schedule.rs`.

use redial_core::script::schedule::RemoveSchedule;

use super::{Desk, hash, sorted};

#[tokio::test]
async fn only_the_named_schedule_is_removed_even_without_a_next_time() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "schedules", "ended", "once\n{}", "a", "daily\n{}")).await;
    let () = desk.ask(("ZADD", "firings", 5, "a")).await;
    let remove = RemoveSchedule { schedules: "schedules", firings: "firings", name: "ended" };
    assert!(desk.run(&remove).await);
    desk.changes_nothing(&remove, false).await;
    let dump = desk.dump().await;
    assert_eq!(dump["schedules"].0, hash(&[("a", "daily\n{}")]));
    assert_eq!(dump["firings"].0, sorted(&[("a", 5)]));
}
