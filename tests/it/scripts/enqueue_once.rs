//! enqueue_once.lua: the next tasks of a batch, once.

use redial_core::script::{ENQUEUE_ONCE, Invocation};

use super::{Desk, Held, list};

fn call(before: u64, after: u64, tasks: &[&str]) -> Invocation {
    let call = ENQUEUE_ONCE.call().key("waiting").key("mark").arg(before).arg(after).arg(60_000);
    tasks.iter().fold(call, |call, task| call.arg(task))
}

#[tokio::test]
async fn the_next_tasks_of_a_batch_are_pushed_once_however_often_they_are_sent() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "waiting", "another's")).await;
    assert_eq!(desk.run::<u64>(&call(0, 3, &["a", "b"])).await, 3);
    desk.changes_nothing(&call(0, 3, &["a", "b"]), 3_u64).await;
    assert_eq!(desk.run::<u64>(&call(3, 4, &["c"])).await, 4);
    for late in [call(0, 3, &["a", "b"]), call(3, 4, &["c"]), call(9, 10, &["d"])] {
        desk.changes_nothing(&late, 4_u64).await;
    }
    let dump = desk.dump().await;
    assert_eq!(dump["waiting"], (list(&["c", "b", "a", "another's"]), false));
    assert_eq!(dump["mark"], (Held::Text("4".into()), true));
    assert_eq!(dump.len(), 2);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["waiting", "mark"] {
        let desk = Desk::new().await;
        let () = desk.ask(("HSET", key, "something", "else")).await;
        desk.refuses(&call(0, 1, &["a"])).await;
    }
}

#[tokio::test]
async fn a_full_redis_refuses_it_whole() {
    let desk = Desk::new().await;
    let () = desk.ask(("CONFIG", "SET", "maxmemory", "1")).await;
    assert!(desk.try_run::<u64>(&call(0, 1, &["a"])).await.is_err());
    assert!(desk.dump().await.is_empty());
}
