//! replay.lua: a dead letter becomes a task again.

use redial_core::script::MoreKeys;
use redial_core::script::task::Replay;

use super::{AWKWARD, Desk, Held, hash, list, sorted};

fn without_id(letter: &[u8]) -> Replay<'_> {
    Replay {
        dead: "dead",
        waiting: "waiting",
        stats: "stats",
        stored: "stored",
        scheduled: "scheduled",
        letter,
        serial: "",
        answer_keys: MoreKeys(&[]),
    }
}

fn dead_letter_header(serial: &str, raw: &[u8]) -> Vec<u8> {
    let header = format!("{{\"serial\":\"{serial}\",\"id\":null}}\n");
    [header.as_bytes(), raw].concat()
}

#[tokio::test]
async fn the_producers_bytes_go_back_exactly_and_the_old_answer_goes() {
    for raw in AWKWARD {
        let desk = Desk::new().await;
        let () = desk.ask(("ZADD", "dead", 5, dead_letter_header("s:1:1", raw))).await;
        let () = desk.ask(("SET", "result", "old")).await;
        let () = desk.ask(("XADD", "stream", "*", "t", "end", "d", "{}")).await;
        let () = desk.ask(("LPUSH", "waiting", "before")).await;
        let answer = ["result".to_owned(), "stream".to_owned()];
        let letter = dead_letter_header("s:1:1", raw);
        let replay = Replay { answer_keys: MoreKeys(&answer), ..without_id(&letter) };
        assert!(desk.run(&replay).await);
        let dump = desk.dump().await;
        assert_eq!(dump["waiting"], (list(&[raw, b"before"]), false));
        assert_eq!(dump["stats"].0, hash(&[("replayed", "1")]));
        assert_eq!(dump.len(), 2, "{dump:?}");
        desk.changes_nothing(&replay, false).await;
    }
}

#[tokio::test]
async fn a_letter_without_an_id_has_no_result_to_delete() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "dead", 5, dead_letter_header("s:1:1", b"raw"))).await;
    let () = desk.ask(("SET", "result", "another's")).await;
    assert!(desk.run(&without_id(&dead_letter_header("s:1:1", b"raw"))).await);
    assert!(desk.dump().await.contains_key("result"));
}

#[tokio::test]
async fn of_several_letters_of_one_millisecond_only_the_named_one_moves() {
    let desk = Desk::new().await;
    for serial in ["s:1:10", "s:1:1", "s:1:2"] {
        let () = desk.ask(("ZADD", "dead", 5, dead_letter_header(serial, serial.as_bytes()))).await;
    }
    assert!(desk.run(&without_id(&dead_letter_header("s:1:1", b"s:1:1"))).await);
    let left = [(dead_letter_header("s:1:10", b"s:1:10"), 5), (dead_letter_header("s:1:2", b"s:1:2"), 5)];
    let dump = desk.dump().await;
    assert_eq!(dump["dead"].0, sorted(&left));
    assert_eq!(dump["waiting"].0, list(&["s:1:1"]));
}

#[tokio::test]
async fn a_letter_that_is_gone_changes_nothing_not_even_a_result() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "dead", 5, dead_letter_header("s:1:1", b"raw"))).await;
    let () = desk.ask(("SET", "result", "of a later task")).await;
    let answer = ["result".to_owned(), "stream".to_owned()];
    for gone in [without_id(&dead_letter_header("s:1:1", b"other")), without_id(b"\nraw")] {
        desk.changes_nothing(&Replay { answer_keys: MoreKeys(&answer), ..gone }, false).await;
    }
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["dead", "waiting"] {
        let desk = Desk::new().await;
        let () = desk.ask(("ZADD", "dead", 5, dead_letter_header("s:1:1", b"raw"))).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&without_id(&dead_letter_header("s:1:1", b"raw"))).await;
        assert_eq!(desk.dump().await[key].0, Held::Text("something else".into()));
    }
}

#[tokio::test]
async fn a_delivery_goes_back_to_where_no_producer_writes() {
    let desk = Desk::new().await;
    let letter = dead_letter_header("s:1:1:callback", b"raw");
    let () = desk.ask(("ZADD", "dead", 5, &letter)).await;
    let replay = Replay { serial: "s:1:1:callback", ..without_id(&letter) };
    assert!(desk.run(&replay).await);
    let dump = desk.dump().await;
    assert!(!dump.contains_key("waiting"));
    let stored: String = desk.ask(("HGET", "stored", "s:1:1:callback")).await;
    assert!(stored.starts_with("s:1:1:callback ") && stored.ends_with(" 0 0 -\nraw"), "{stored}");
    let due: u64 = desk.ask(("ZSCORE", "scheduled", "s:1:1:callback")).await;
    assert!(due > 0);
    desk.changes_nothing(&replay, false).await;
}
