//! append.lua: an answer on its way to its stream.

use redial_core::script::stream::{AppendToStream, Appended, StreamPart};

use super::{Desk, entry, stream};

const HEAD: StreamPart<'_> = StreamPart::Head("{\"status\":200}");
const BROKEN: StreamPart<'_> = StreamPart::Restart("{\"why\":\"broken\"}");

fn call<'a>(token: &'a str, epoch: Option<u64>, number: u64, parts: &'a [StreamPart<'a>]) -> AppendToStream<'a> {
    AppendToStream { held: "active", stream: "stream", token, ttl_ms: 60_000, epoch, number, parts }
}

fn done(appended: Appended) -> u64 {
    match appended {
        Appended::Done(epoch) => epoch,
        other => panic!("{other:?}"),
    }
}

async fn desk(tokens: &[&str]) -> Desk {
    let desk = Desk::new().await;
    for token in tokens {
        desk.hold(token, &entry("s:1:1", 0, false, b"raw")).await;
    }
    desk
}

#[tokio::test]
async fn parts_follow_each_other_and_what_is_sent_twice_is_there_once() {
    let desk = desk(&["t"]).await;
    let first = [HEAD, StreamPart::Data(b"\0a\n")];
    let epoch = done(desk.run(&call("t", None, 1, &first)).await);
    assert!(desk.now().await.abs_diff(epoch) < 60_000);
    desk.changes_nothing(&call("t", None, 1, &first), Appended::Done(epoch)).await;
    let second = [StreamPart::Data(b"b"), StreamPart::Data(b"c")];
    assert_eq!(desk.run(&call("t", Some(epoch), 3, &second)).await, Appended::Done(epoch));
    for (number, parts) in [(3, &second), (1, &first)] {
        desk.changes_nothing(&call("t", Some(epoch), number, parts), Appended::Done(epoch)).await;
    }
    // A copy that carries more than what came before.
    let more = [second[0], second[1], StreamPart::Data(b"d")];
    assert_eq!(desk.run(&call("t", Some(epoch), 3, &more)).await, Appended::Done(epoch));
    let entries: &[&[&str]] = &[
        &["t", "head", "d", "{\\\"status\\\":200}", "by", "t"],
        &["t", "data", "d", "\\x00a\\n"],
        &["t", "data", "d", "b"],
        &["t", "data", "d", "c"],
        &["t", "data", "d", "d"],
    ];
    assert_eq!(desk.dump().await["stream"], (stream(entries), true));
    let ids: Vec<(String, Vec<String>)> = desk.ask(("XRANGE", "stream", "-", "+", "COUNT", 1)).await;
    assert_eq!(ids[0].0, format!("{epoch}-1"));
}

#[tokio::test]
async fn a_worker_that_lost_the_task_appends_nothing() {
    let desk = desk(&["new"]).await;
    desk.changes_nothing(&call("old", None, 1, &[HEAD]), Appended::LeaseLost).await;
    let epoch = done(desk.run(&call("new", None, 1, &[HEAD])).await);
    for at in [None, Some(epoch), Some(epoch + 1)] {
        desk.changes_nothing(&call("old", at, 2, &[StreamPart::Data(b"stale")]), Appended::LeaseLost).await;
    }
}

#[tokio::test]
async fn the_next_delivery_tells_readers_to_forget_what_came_and_frees_it() {
    for is_told in [false, true] {
        let desk = desk(&["first", "second"]).await;
        let epoch = done(desk.run(&call("first", None, 1, &[HEAD, StreamPart::Data(b"half")])).await);
        if is_told {
            assert_eq!(desk.run(&call("first", Some(epoch), 3, &[BROKEN])).await, Appended::Done(epoch));
            desk.changes_nothing(&call("first", Some(epoch), 3, &[BROKEN]), Appended::Done(epoch)).await;
        }
        let next = done(desk.run(&call("second", None, 1, &[HEAD])).await);
        assert!(next > epoch);
        desk.changes_nothing(&call("second", None, 1, &[HEAD]), Appended::Done(next)).await;
        let why = if is_told { "broken" } else { "another delivery of the task begins" };
        let why = format!("{{\\\"why\\\":\\\"{why}\\\"}}");
        let entries: &[&[&str]] =
            &[&["t", "restart", "d", &why], &["t", "head", "d", "{\\\"status\\\":200}", "by", "second"]];
        assert_eq!(desk.dump().await["stream"].0, stream(entries));
    }
}

#[tokio::test]
async fn what_an_earlier_task_of_the_same_id_left_is_deleted_and_ids_go_on() {
    for last in ["end", "error"] {
        let desk = desk(&["t"]).await;
        let late = desk.now().await + 100_000;
        let () = desk.ask(("XADD", "stream", format!("{late}-5"), "t", last, "d", "{}")).await;
        let epoch = done(desk.run(&call("t", None, 1, &[HEAD])).await);
        assert_eq!(epoch, late + 1);
        let entries: &[&[&str]] = &[&["t", "head", "d", "{\\\"status\\\":200}", "by", "t"]];
        assert_eq!(desk.dump().await["stream"].0, stream(entries));
    }
}

#[tokio::test]
async fn a_stream_that_was_deleted_meanwhile_does_not_come_back_without_its_head() {
    let desk = desk(&["t"]).await;
    let epoch = done(desk.run(&call("t", None, 1, &[HEAD])).await);
    let () = desk.ask(("DEL", "stream")).await;
    desk.changes_nothing(&call("t", Some(epoch), 2, &[StreamPart::Data(b"tail")]), Appended::Gone).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = desk(&["t"]).await;
    let () = desk.ask(("SET", "stream", "x")).await;
    desk.refuses(&call("t", None, 1, &[HEAD])).await;
    desk.refuses(&call("t", Some(5), 2, &[StreamPart::Data(b"a")])).await;
}

#[tokio::test]
async fn a_full_redis_takes_the_rest_of_an_answer_as_it_takes_a_result() {
    let desk = desk(&["t"]).await;
    let epoch = done(desk.run(&call("t", None, 1, &[HEAD])).await);
    let () = desk.ask(("CONFIG", "SET", "maxmemory", "100kb")).await;
    assert_eq!(desk.try_ask::<u64>(("LPUSH", "list", "x")).await.unwrap_err().code(), Some("OOM"));
    assert_eq!(desk.run(&call("t", Some(epoch), 2, &[StreamPart::Data(b"a")])).await, Appended::Done(epoch));
}
