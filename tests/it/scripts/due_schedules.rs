//! due_schedules.lua: the schedules that are due.

use redial_core::script::schedule::{DueSchedule, DueSchedules, ListDueSchedules};

use super::Desk;

fn call<'a>(max_schedules: usize) -> ListDueSchedules<'a> {
    ListDueSchedules { schedules: "schedules", firings: "firings", max_schedules }
}

/// When the next one beyond the list fires, and for each that is due its name, time and header.
async fn look(desk: &Desk, most: usize) -> Vec<String> {
    let before = desk.dump().await;
    let DueSchedules { now, next_at, due } = desk.run(&call(most)).await;
    assert_eq!(desk.dump().await, before, "nothing is changed");
    assert!(now.0.abs_diff(desk.now().await) < 5_000);
    let mut words = vec![next_at.map_or("none".into(), |at| at.to_string())];
    for DueSchedule { name, due_at, header } in due {
        words.extend([name, due_at.to_string(), header]);
    }
    words
}

#[tokio::test]
async fn due_schedules_are_listed_and_when_the_next_one_fires() {
    let desk = Desk::new().await;
    assert_eq!(look(&desk, 100).await, ["none"]);
    let () = desk.ask(("HSET", "schedules", "a", "daily\n{\n}", "b", "hourly\n{}", "c", "x\n{}")).await;
    let later = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "firings", 1000, "a", 2000, "b", later, "c", 1500, "gone")).await;
    let later = later.to_string();
    assert_eq!(look(&desk, 100).await, [&later, "a", "1000", "daily", "b", "2000", "hourly"]);
    assert_eq!(look(&desk, 1).await, ["1500", "a", "1000", "daily"], "the rest is due at the next look");
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "firings", "x")).await;
    desk.refuses(&call(1)).await;
}
