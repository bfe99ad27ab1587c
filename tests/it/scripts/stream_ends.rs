//! How finish.lua, bury.lua and bury_stored.lua end the stream of a task.

use redial_core::script::ending::{Ending, FinishedTask, ReplyRoute, StreamEnding};
use redial_core::script::stored::{BuriedTask, BuryStored};
use redial_core::script::task::Bury;

use super::{Desk, Held, bury, stream};

const TTL_MS: u64 = 50_000;

fn ending<'a>(reply: ReplyRoute<'a>, follow_ups: &'a [String]) -> Ending<'a> {
    let stream = Some(StreamEnding { key: "stream", last_entry: "end {\"status\": \"ok\"}" });
    Ending { result_key: "result", ttl_ms: TTL_MS, result: "answer", reply, stream, follow_ups }
}

impl Desk {
    /// Ends a task in one of the three ways. Whether it was there.
    async fn end(&self, way: usize, token: &str, ending: Ending<'_>) -> bool {
        match way {
            0 => self.finish_all(&[FinishedTask { token, ending }]).await == [true],
            1 => self.run(&Bury { ending: Some(ending), ..bury::without_id(token) }).await,
            _ => {
                let tasks = [BuriedTask { serial: token, letter_header: "{}", ending: Some(ending) }];
                let call = BuryStored {
                    stored: "active",
                    scheduled: "scheduled",
                    watch: "watch",
                    dead: "dead",
                    stats: "stats",
                    replies: "replies",
                    waiters: "waiters",
                    waiting: "waiting",
                    tasks: &tasks,
                };
                self.run(&call).await == [true]
            }
        }
    }
}

#[tokio::test]
async fn the_last_entry_comes_with_the_result_and_once_whatever_else_the_task_leaves() {
    let follow_ups = ["next".to_owned()];
    for way in 0..3 {
        for (reply, follow_ups) in [(ReplyRoute::None, &[][..]), (ReplyRoute::Push("reply"), &follow_ups[..])] {
            let desk = Desk::new().await;
            let () = desk.ask(("XADD", "stream", "5-1", "t", "data", "d", "a")).await;
            assert!(!desk.end(way, "t", ending(reply, follow_ups)).await, "{way}");
            desk.hold("t", b"h\nraw").await;
            assert!(desk.end(way, "t", ending(reply, follow_ups)).await, "{way}");
            assert!(!desk.end(way, "t", ending(reply, follow_ups)).await, "{way}");
            let entries: &[&[&str]] = &[&["t", "data", "d", "a"], &["t", "end", "d", "{\\\"status\\\": \\\"ok\\\"}"]];
            let dump = desk.dump().await;
            assert_eq!(dump["stream"], (stream(entries), true), "{way}");
            assert_eq!(dump["result"].0, Held::Text("answer".into()));
            assert_eq!(dump.contains_key("reply"), reply != ReplyRoute::None);
            assert_eq!(dump.contains_key("waiting"), !follow_ups.is_empty());
            let ttl: u64 = desk.ask(("PTTL", "stream")).await;
            assert!((TTL_MS - 5_000..=TTL_MS).contains(&ttl), "{ttl}");
        }
    }
}

#[tokio::test]
async fn a_task_that_had_no_answer_to_stream_ends_a_stream_of_its_own() {
    for way in 0..3 {
        let desk = Desk::new().await;
        // Left by an earlier task of the same id.
        let () = desk.ask(("XADD", "stream", "5-1", "t", "error", "d", "{}")).await;
        desk.hold("t", b"h\nraw").await;
        assert!(desk.end(way, "t", ending(ReplyRoute::None, &[])).await);
        let entries: &[&[&str]] = &[&["t", "end", "d", "{\\\"status\\\": \\\"ok\\\"}"]];
        assert_eq!(desk.dump().await["stream"].0, stream(entries), "{way}");
    }
}

#[tokio::test]
async fn a_key_of_another_type_does_not_hold_up_the_result() {
    for way in 0..3 {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", "stream", "something else")).await;
        desk.hold("t", b"h\nraw").await;
        assert!(desk.end(way, "t", ending(ReplyRoute::None, &[])).await);
        let dump = desk.dump().await;
        assert_eq!(dump["result"].0, Held::Text("answer".into()), "{way}");
        assert_eq!(dump["stream"], (Held::Text("something else".into()), false), "{way}");
    }
}
