//! grow_partitions.lua: over how many partitions a queue is spread.

use redial_core::script::fleet::GrowPartitions;

use super::Desk;

fn grow(queue: &str, count: u32) -> GrowPartitions<'_> {
    GrowPartitions { partitions: "partitions", queue, count }
}

#[tokio::test]
async fn the_number_of_a_queue_rises_and_never_falls() {
    let desk = Desk::new().await;
    assert_eq!(desk.run(&grow("q", 4)).await, 4);
    desk.changes_nothing(&grow("q", 4), 4).await;
    desk.changes_nothing(&grow("q", 2), 4).await;
    assert_eq!(desk.run(&grow("q", 8)).await, 8);
    assert_eq!(desk.run(&grow("other", 1)).await, 1);
    let all: Vec<(String, u32)> = desk.ask(("HGETALL", "partitions")).await;
    assert!(all.contains(&("q".into(), 8)) && all.contains(&("other".into(), 1)) && all.len() == 2, "{all:?}");
}

#[tokio::test]
async fn a_key_of_another_type_is_refused() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "partitions", "something else")).await;
    desk.refuses(&grow("q", 1)).await;
}
