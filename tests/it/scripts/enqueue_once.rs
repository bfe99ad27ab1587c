//! enqueue_once.lua: the next tasks of a batch, once.

use redial_core::script::push_checkpoint::PushCheckpoint;
use redial_core::script::task::EnqueueOnce;

use super::{Desk, Held, list};

/// Pushes these tasks of a batch, separated by spaces.
async fn push(desk: &Desk, before: u64, after: u64, tasks: &str) -> PushCheckpoint {
    let tasks: Vec<String> = tasks.split(' ').map(str::to_owned).collect();
    desk.run(&call(before, after, &tasks)).await
}

fn call(before: u64, after: u64, tasks: &[String]) -> EnqueueOnce<'_> {
    EnqueueOnce { waiting: "waiting", checkpoint: "mark", before, after, ttl_ms: 60_000, tasks }
}

#[tokio::test]
async fn the_next_tasks_of_a_batch_are_pushed_once_however_often_they_are_sent() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "waiting", "another's")).await;
    assert_eq!(push(&desk, 0, 3, "a b").await, PushCheckpoint::At(3));
    let (ab, c, d) = (["a".to_owned(), "b".to_owned()], ["c".to_owned()], ["d".to_owned()]);
    desk.changes_nothing(&call(0, 3, &ab), PushCheckpoint::At(3)).await;
    assert_eq!(push(&desk, 3, 4, "c").await, PushCheckpoint::At(4));
    for late in [call(0, 3, &ab), call(3, 4, &c), call(9, 10, &d)] {
        desk.changes_nothing(&late, PushCheckpoint::At(4)).await;
    }
    let dump = desk.dump().await;
    assert_eq!(dump["waiting"], (list(&["c", "b", "a", "another's"]), false));
    assert_eq!(dump["mark"], (Held::Text("4".into()), true));
    assert_eq!(dump.len(), 2);
}

#[tokio::test]
async fn a_task_that_belongs_to_a_partition_is_not_pushed_beside_it() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "mark", "@7")).await;
    desk.changes_nothing(&call(0, 1, &["a".to_owned()]), PushCheckpoint::InPartition(7)).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["waiting", "mark"] {
        let desk = Desk::new().await;
        let () = desk.ask(("HSET", key, "something", "else")).await;
        desk.refuses(&call(0, 1, &["a".to_owned()])).await;
    }
}

#[tokio::test]
async fn a_full_redis_refuses_the_whole_push() {
    let desk = Desk::new().await;
    let () = desk.ask(("CONFIG", "SET", "maxmemory", "1")).await;
    assert!(desk.try_run(&call(0, 1, &["a".to_owned()])).await.is_err());
    assert!(desk.dump().await.is_empty());
}
