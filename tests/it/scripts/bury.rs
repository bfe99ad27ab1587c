//! bury.lua: a dead letter and a result that says the same. What becomes of a reply is in `reply.rs`.

use redial_core::script::{BURY, Invocation};

use super::{AWKWARD, Desk, Held, entry, hash, sorted};

const LETTER: &str = "{\"serial\":\"s:1:1\"}";

fn without_id(token: &str) -> Invocation {
    let keys = ["active", "dead", "stats", "replies", "waiters", "waiting"];
    keys.into_iter().fold(BURY.call(), Invocation::key).arg("hash").arg(token).arg(LETTER).arg(token)
}

fn call(token: &str) -> Invocation {
    let answer = without_id(token).key("result").arg(50_000).arg("result");
    answer.arg("none").arg("")
}

#[tokio::test]
async fn a_dead_letter_holds_the_producers_bytes_exactly() {
    for raw in AWKWARD {
        let desk = Desk::new().await;
        desk.hold("t", &entry("s:1:1", 0, false, raw)).await;
        let before = desk.now().await;
        assert_eq!(desk.run::<u8>(&call("t")).await, 1);
        let mut dump = desk.dump().await;
        let letter = [LETTER.as_bytes(), b"\n", raw].concat();
        let at: u64 = desk.ask(("ZSCORE", "dead", &letter)).await;
        assert!((before..before + 5_000).contains(&at));
        assert_eq!(dump.remove("dead"), Some((sorted(&[(letter, at)]), false)));
        assert_eq!(dump.remove("stats"), Some((hash(&[("dead", "1")]), false)));
        let result = Held::Text("result".into());
        assert_eq!(dump.remove("result"), Some((result, true)));
        assert!(dump.is_empty(), "{dump:?}");
        // Sent twice: the lease is gone with the first.
        desk.changes_nothing(&call("t"), 0).await;
    }
}

#[tokio::test]
async fn a_task_without_a_readable_id_gets_a_letter_and_no_result() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("s:1:1", 0, false, b"raw")).await;
    assert_eq!(desk.run::<u8>(&without_id("t")).await, 1);
    let keys: Vec<String> = desk.dump().await.into_keys().collect();
    assert_eq!(keys, ["dead", "stats"]);
}

#[tokio::test]
async fn what_is_no_entry_is_buried_with_all_its_bytes() {
    let desk = Desk::new().await;
    desk.hold("t", b"no header").await;
    assert_eq!(desk.run::<u8>(&without_id("t")).await, 1);
    let dead: Vec<String> = desk.ask(("ZRANGE", "dead", 0, -1)).await;
    assert_eq!(dead, [format!("{LETTER}\nno header")]);
}

#[tokio::test]
async fn a_worker_that_lost_the_task_can_not_bury_it() {
    let desk = Desk::new().await;
    desk.hold("other", b"h\nraw").await;
    desk.changes_nothing(&call("t"), 0).await;
    desk.changes_nothing(&without_id("t"), 0).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["active", "dead", "stats", "replies", "waiters", "waiting"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("t")).await;
    }
}

#[tokio::test]
async fn a_task_that_no_worker_holds_is_ended_where_it_lies() {
    for raw in AWKWARD {
        let lying = entry("s:1:1", 0, false, raw);
        for (kind, member) in [("list", raw.to_vec()), ("zset", lying.clone())] {
            let desk = Desk::new().await;
            for lies in [b"before".as_slice(), &member, b"behind"] {
                let () = match kind {
                    "list" => desk.ask(("RPUSH", "place", lies)).await,
                    _ => desk.ask(("ZADD", "place", 1, lies)).await,
                };
            }
            let keys = ["place", "dead", "stats", "replies", "waiters", "waiting"];
            let end = || {
                let call = keys.into_iter().fold(BURY.call(), Invocation::key).key("result").arg(kind).bytes(&member);
                call.arg(LETTER).arg("s:1:1").arg(50_000).arg("result").arg("none").arg("")
            };
            assert_eq!(desk.run::<u8>(&end()).await, 1);
            let letters: Vec<Vec<u8>> = desk.ask(("ZRANGE", "dead", 0, -1)).await;
            assert_eq!(letters, [[LETTER.as_bytes(), b"\n", raw].concat()]);
            let left = if kind == "list" { "LLEN" } else { "ZCARD" };
            assert_eq!(desk.ask::<u64>((left, "place")).await, 2, "only the one that was meant");
            desk.changes_nothing(&end(), 0).await;
        }
    }
}

#[tokio::test]
async fn what_follows_is_pushed_with_the_dead_letter_and_once() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let () = desk.ask(("LPUSH", "waiting", "before")).await;
    let call = || call("t").arg("{\"next\":1}").arg("two\nlines");
    assert_eq!(desk.run::<u8>(&call()).await, 1);
    let waiting: Vec<String> = desk.ask(("LRANGE", "waiting", 0, -1)).await;
    assert_eq!(waiting, ["two\nlines", "{\"next\":1}", "before"]);
    desk.changes_nothing(&call(), 0).await;
}
