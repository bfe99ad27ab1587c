//! watch_list.lua: when a wait list is checked next.

use redial_core::script::stored::WatchList;

use super::{Desk, sorted};

fn call<'a>(check_in_ms: u64) -> WatchList<'a> {
    WatchList { wait_list: "list", watch: "watch", list_name: "breaker h:1", check_in_ms }
}

#[tokio::test]
async fn a_list_with_tasks_is_checked_at_the_new_time_whatever_the_old_one_was() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "list", 1, "s1", 2, "s2")).await;
    for wait in [60_000, 5_000, 90_000] {
        assert_eq!(desk.run(&call(wait)).await, 2);
        let at: u64 = desk.ask(("ZSCORE", "watch", "breaker h:1")).await;
        assert!(at.abs_diff(desk.now().await + wait) < 5_000);
    }
}

#[tokio::test]
async fn an_empty_list_is_no_longer_watched() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "watch", 1, "breaker h:1", 2, "s1")).await;
    assert_eq!(desk.run(&call(60_000)).await, 0);
    assert_eq!(desk.dump().await["watch"].0, sorted(&[("s1", 2)]));
    desk.changes_nothing(&call(60_000), 0).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    for key in ["list", "watch"] {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", key, "x")).await;
        desk.refuses(&call(1)).await;
    }
}
