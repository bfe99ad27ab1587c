//! due.lua: which schedules it is time to fire.

use redial_core::script::{DUE, Invocation};
use redis::Value;

use super::Desk;

fn call(most: u32) -> Invocation {
    DUE.call().key("schedules").key("firings").arg(most)
}

/// The reply, its time apart.
async fn look(desk: &Desk, most: u32) -> Vec<String> {
    let before = desk.dump().await;
    let mut reply: Vec<Value> = desk.run(&call(most)).await;
    assert_eq!(desk.dump().await, before, "nothing is changed");
    let now: u64 = redis::from_redis_value(reply.remove(0)).unwrap();
    assert!(now.abs_diff(desk.now().await) < 5_000);
    reply.into_iter().map(|value| redis::from_redis_value(value).unwrap()).collect()
}

#[tokio::test]
async fn what_is_due_is_named_and_when_the_next_one_is() {
    let desk = Desk::new().await;
    assert_eq!(look(&desk, 100).await, ["-1"]);
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
