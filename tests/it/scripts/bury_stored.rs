//! bury_stored.lua: scheduled and parked tasks become dead letters.

use redial_core::script::ending::{Ending, ReplyRoute};
use redial_core::script::stored::{BuriedTask, BuryStored};

use super::{AWKWARD, Desk, entry, hash, list};

fn task<'a>(serial: &'a str, result_key: &'a str, reply: ReplyRoute<'a>, follow_ups: &'a [String]) -> BuriedTask<'a> {
    let ending = Ending { result_key, ttl_ms: 50_000, result: "result", reply, stream: None, follow_ups };
    BuriedTask { serial, letter_header: "{\"serial\":\"s\"}", ending: Some(ending) }
}

fn call<'a>(tasks: &'a [BuriedTask<'a>]) -> BuryStored<'a> {
    BuryStored {
        stored: "stored",
        scheduled: "scheduled",
        watch: "watch",
        dead: "dead",
        stats: "stats",
        replies: "replies",
        waiters: "waiters",
        waiting: "waiting",
        tasks,
    }
}

/// With these tasks stored as `s0`, `s1` and so on, all scheduled and with a deadline.
async fn desk(raws: &[&[u8]]) -> Desk {
    let desk = Desk::new().await;
    for (n, raw) in raws.iter().enumerate() {
        let serial = format!("s{n}");
        let () = desk.ask(("HSET", "stored", &serial, entry(&serial, 0, false, raw))).await;
        let () = desk.ask(("ZADD", "scheduled", 5, &serial)).await;
        let () = desk.ask(("ZADD", "watch", 5, &serial)).await;
    }
    desk
}

#[tokio::test]
async fn each_dead_letter_holds_the_producers_bytes_and_nothing_else_is_left() {
    let desk = desk(&AWKWARD).await;
    let keys: Vec<(String, String)> = (0..AWKWARD.len()).map(|n| (format!("s{n}"), format!("result{n}"))).collect();
    let tasks: Vec<_> = keys.iter().map(|(serial, result)| task(serial, result, ReplyRoute::None, &[])).collect();
    assert_eq!(desk.run(&call(&tasks)).await, [true; 6]);
    let mut letters: Vec<Vec<u8>> = desk.ask(("ZRANGE", "dead", 0, -1)).await;
    let mut expected: Vec<Vec<u8>> = AWKWARD.iter().map(|raw| [b"{\"serial\":\"s\"}\n", *raw].concat()).collect();
    letters.sort();
    expected.sort();
    assert_eq!(letters, expected);
    let dump = desk.dump().await;
    assert_eq!(dump["stats"].0, hash(&[("dead", "6")]));
    assert!(dump["result3"].1, "a result expires");
    assert!(!["stored", "scheduled", "watch"].iter().any(|key| dump.contains_key(*key)), "{dump:?}");
    // Sent twice: they are gone with the first.
    desk.changes_nothing(&call(&tasks), vec![false; 6]).await;
}

#[tokio::test]
async fn replies_and_follow_ups_are_pushed_with_each_task() {
    let desk = desk(&[b"a", b"b"]).await;
    let next = ["next".to_owned(), "after".to_owned()];
    let tasks = [
        task("s0", "r0", ReplyRoute::Push("reply"), &next),
        task("s1", "r1", ReplyRoute::Later("elsewhere"), &next[..1]),
    ];
    assert_eq!(desk.run(&call(&tasks)).await, [true, true]);
    let dump = desk.dump().await;
    assert_eq!(dump["reply"].0, list(&["result"]));
    assert_eq!(dump["waiting"].0, list(&["next", "after", "next"]));
    assert_eq!(dump["replies"].0, hash(&[("s1", "50000 result\nelsewhere")]));
}

#[tokio::test]
async fn a_task_that_is_gone_does_not_stop_the_others() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    let () = desk.ask(("HDEL", "stored", "s1")).await;
    let tasks = [
        task("s0", "r0", ReplyRoute::None, &[]),
        task("s1", "r1", ReplyRoute::None, &[]),
        task("s2", "r2", ReplyRoute::None, &[]),
    ];
    assert_eq!(desk.run(&call(&tasks)).await, [true, false, true]);
    let dump = desk.dump().await;
    assert!(!dump.contains_key("r1"), "{dump:?}");
    assert_eq!(dump["stats"].0, hash(&[("dead", "2")]));
}

#[tokio::test]
async fn a_task_without_a_result_leaves_a_letter_alone_and_counters_of_another_type_stop_nothing() {
    let desk = desk(&[b"a", b"b"]).await;
    for key in ["stats", "replies", "waiters"] {
        let () = desk.ask(("SET", key, "x")).await;
    }
    let without = BuriedTask { ending: None, ..task("s0", "r0", ReplyRoute::None, &[]) };
    assert_eq!(desk.run(&call(&[without, task("s1", "r1", ReplyRoute::None, &[])])).await, [true, true]);
    let dump = desk.dump().await;
    assert!(!dump.contains_key("r0") && dump.contains_key("r1"), "{dump:?}");
    assert_eq!(desk.ask::<u64>(("ZCARD", "dead")).await, 2);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_removed() {
    for key in ["stored", "scheduled", "watch", "dead", "waiting"] {
        let desk = desk(&[b"a"]).await;
        let () = desk.ask(("SET", key, "x")).await;
        desk.refuses(&call(&[task("s0", "r0", ReplyRoute::None, &[])])).await;
    }
}
