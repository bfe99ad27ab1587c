//! bury.lua: a dead letter, and a result that says the same. Replies are tested in `reply.rs`.

use redial_core::script::ending::{Ending, ReplyRoute};
use redial_core::script::task::Bury;

use super::{AWKWARD, Desk, Held, entry, hash, sorted};

const LETTER: &str = "{\"serial\":\"s:1:1\"}";

pub(crate) fn without_id(token: &str) -> Bury<'_> {
    Bury {
        place: "active",
        dead: "dead",
        stats: "stats",
        replies: "replies",
        waiters: "waiters",
        waiting: "waiting",
        stored: "stored",
        scheduled: "scheduled",
        place_type: "hash",
        member: token.as_bytes(),
        letter_header: LETTER,
        token,
        ending: None,
    }
}

const ENDING: Ending<'_> = Ending {
    result_key: "result",
    ttl_ms: 50_000,
    result: "result",
    reply: ReplyRoute::None,
    stream: None,
    follow_ups: &[],
};

fn call(token: &str) -> Bury<'_> {
    Bury { ending: Some(ENDING), ..without_id(token) }
}

#[tokio::test]
async fn a_dead_letter_holds_the_producers_bytes_exactly() {
    for raw in AWKWARD {
        let desk = Desk::new().await;
        desk.hold("t", &entry("s:1:1", 0, false, raw)).await;
        let before = desk.now().await;
        assert!(desk.run(&call("t")).await);
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
        desk.changes_nothing(&call("t"), false).await;
    }
}

#[tokio::test]
async fn a_task_without_a_readable_id_gets_a_letter_and_no_result() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("s:1:1", 0, false, b"raw")).await;
    assert!(desk.run(&without_id("t")).await);
    let keys: Vec<String> = desk.dump().await.into_keys().collect();
    assert_eq!(keys, ["dead", "stats"]);
}

#[tokio::test]
async fn a_value_that_is_not_an_entry_is_buried_with_all_its_bytes() {
    let desk = Desk::new().await;
    desk.hold("t", b"no header").await;
    assert!(desk.run(&without_id("t")).await);
    let dead: Vec<String> = desk.ask(("ZRANGE", "dead", 0, -1)).await;
    assert_eq!(dead, [format!("{LETTER}\nno header")]);
}

#[tokio::test]
async fn a_worker_that_lost_the_task_cannot_bury_it() {
    let desk = Desk::new().await;
    desk.hold("other", b"h\nraw").await;
    desk.changes_nothing(&call("t"), false).await;
    desk.changes_nothing(&without_id("t"), false).await;
}

#[tokio::test]
async fn keys_of_another_type_that_it_can_do_without_stop_nothing() {
    let desk = Desk::new().await;
    for key in ["stats", "replies", "waiters", "waiting"] {
        let () = desk.ask(("SET", key, "something else")).await;
    }
    desk.hold("t", b"h\nraw").await;
    assert!(desk.run(&call("t")).await);
    let letters: u64 = desk.ask(("ZCARD", "dead")).await;
    assert_eq!(letters, 1);
    desk.hold("t", b"h\nraw").await;
    let follow_ups = ["next".to_owned()];
    for ending in
        [Ending { reply: ReplyRoute::Later("elsewhere"), ..ENDING }, Ending { follow_ups: &follow_ups, ..ENDING }]
    {
        desk.refuses(&Bury { ending: Some(ending), ..without_id("t") }).await;
    }
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["active", "dead"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("t")).await;
    }
}

#[tokio::test]
async fn a_task_that_no_worker_holds_is_ended_where_it_is() {
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
            let end = Bury { place: "place", place_type: kind, member: &member, ..call("s:1:1") };
            assert!(desk.run(&end).await);
            let letters: Vec<Vec<u8>> = desk.ask(("ZRANGE", "dead", 0, -1)).await;
            assert_eq!(letters, [[LETTER.as_bytes(), b"\n", raw].concat()]);
            let left = if kind == "list" { "LLEN" } else { "ZCARD" };
            assert_eq!(desk.ask::<u64>((left, "place")).await, 2, "only the one that was meant");
            desk.changes_nothing(&end, false).await;
        }
    }
}

#[tokio::test]
async fn follow_ups_are_pushed_with_the_dead_letter_and_once() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let () = desk.ask(("LPUSH", "waiting", "before")).await;
    let follow_ups = ["{\"next\":1}".to_owned(), "two\nlines".into()];
    let call = Bury { ending: Some(Ending { follow_ups: &follow_ups, ..ENDING }), ..without_id("t") };
    assert!(desk.run(&call).await);
    let waiting: Vec<String> = desk.ask(("LRANGE", "waiting", 0, -1)).await;
    assert_eq!(waiting, ["two\nlines", "{\"next\":1}", "before"]);
    desk.changes_nothing(&call, false).await;
}
