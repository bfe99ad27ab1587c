//! deliver.lua: a reply whose list lies in another Cluster slot. Times to live are in `reply.rs`, the way there in `cluster.rs`.

use redial_core::script::task::Deliver;

use super::{Desk, list};

fn call(result: &str) -> Deliver<'_> {
    Deliver { reply_list: "reply", ttl_ms: "1000", result }
}

#[tokio::test]
async fn a_reply_is_pushed_at_least_once() {
    let desk = Desk::new().await;
    assert!(desk.run(&call("first")).await);
    for _ in 0..2 {
        assert!(desk.run(&call("second")).await);
    }
    let dump = desk.dump().await;
    assert_eq!(dump["reply"], (list(&["second", "second", "first"]), true));
    assert_eq!(dump.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_not_a_list_is_left_as_it_is() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "reply", "someone", "else")).await;
    desk.changes_nothing(&call("answer"), false).await;
}
