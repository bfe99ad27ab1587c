//! deliver.lua: a reply whose list lies in another Cluster slot. Times to live are in `reply.rs`, the way there in `cluster.rs`.

use redial_core::script::{DELIVER, Invocation};

use super::{Desk, list};

fn call(result: &str) -> Invocation {
    DELIVER.call().key("reply").arg(1_000).arg(result)
}

#[tokio::test]
async fn a_reply_is_pushed_at_least_once() {
    let desk = Desk::new().await;
    assert_eq!(desk.run::<u8>(&call("first")).await, 1);
    for _ in 0..2 {
        assert_eq!(desk.run::<u8>(&call("second")).await, 1);
    }
    let dump = desk.dump().await;
    assert_eq!(dump["reply"], (list(&["second", "second", "first"]), true));
    assert_eq!(dump.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_no_list_is_left_as_it_is() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "reply", "someone", "else")).await;
    desk.changes_nothing(&call("answer"), 0).await;
}
