//! reap.lua: tasks taken back from a worker, and which of them count a crash.

use redial_core::consumer::TakenBack;
use redial_core::script::task::Reap;

use super::{AWKWARD, Desk, Held, entry, hash};

const MANY: usize = 1 << 20;

pub(crate) fn call(reason: &str, max_tasks: usize, max_bytes: usize) -> Reap<'_> {
    Reap {
        workers: "workers",
        active: "active",
        scheduled: "scheduled",
        stored: "stored",
        stats: "stats",
        worker: "w",
        reason,
        renewal: "1",
        max_tasks,
        max_bytes,
        tokens: &[],
    }
}

const NOTHING: TakenBack = TakenBack { moved: 0, remaining: 0 };

impl Desk {
    async fn lease_ended(&self) {
        let () = self.ask(("ZADD", "workers", 1, "w")).await;
    }

    async fn scheduled(&self) -> Vec<Vec<u8>> {
        let serials: Vec<Vec<u8>> = self.ask(("ZRANGE", "scheduled", 0, -1)).await;
        let mut entries = Vec::new();
        for serial in serials {
            entries.push(self.ask(("HGET", "stored", serial)).await);
        }
        entries
    }

    async fn take_back(&self, why: &str, most: usize, bytes: usize) -> (usize, usize) {
        let TakenBack { moved, remaining } = self.run(&call(why, most, bytes)).await;
        (moved, remaining)
    }
}

#[tokio::test]
async fn a_lease_that_was_renewed_since_it_was_seen_to_end_is_respected() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("s:1:1", 0, false, b"raw")).await;
    let future = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "workers", future, "w")).await;
    desk.changes_nothing(&call("reaped", 100, MANY), NOTHING).await;
}

#[tokio::test]
async fn each_task_of_a_dead_worker_can_be_claimed_at_once_with_a_crash_counted() {
    let desk = Desk::new().await;
    desk.lease_ended().await;
    let mut expected = Vec::new();
    for (n, raw) in AWKWARD.into_iter().enumerate() {
        let serial = format!("s:1:{n}");
        desk.hold(&format!("t{n}"), &entry(&serial, 0, false, raw)).await;
        expected.push(entry(&serial, 1, false, raw));
    }
    assert_eq!(desk.take_back("reaped", 100, MANY).await, (6, 0));
    assert_eq!(desk.scheduled().await, expected);
    let dump = desk.dump().await;
    let Held::Sorted(due) = &dump["scheduled"].0 else { panic!() };
    let now = desk.now().await;
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
    let at_once = |(_, at): &(String, f64)| *at <= now as f64 && *at > now as f64 - 5_000.0;
    assert!(due.iter().all(at_once), "{due:?}");
    assert_eq!(dump["stats"].0, hash(&[("reaped", "6")]));
    // Nothing held, so forgotten.
    assert_eq!(dump.len(), 3, "{dump:?}");
    desk.changes_nothing(&call("reaped", 100, MANY), NOTHING).await;
}

#[tokio::test]
async fn a_third_crash_counts_only_for_a_task_that_had_started() {
    let desk = Desk::new().await;
    for (crashes, started, after) in
        [(0, false, 1), (1, false, 2), (1, true, 2), (2, false, 2), (2, true, 3), (3, false, 3), (3, true, 4)]
    {
        desk.lease_ended().await;
        desk.hold("t", &entry("s:1:1", crashes, started, b"raw")).await;
        assert_eq!(desk.take_back("reaped", 100, MANY).await, (1, 0));
        let expected = entry("s:1:1", after, started, b"raw");
        assert_eq!(desk.scheduled().await, [expected], "{crashes} {started}");
        let () = desk.ask(("DEL", "scheduled", "stored")).await;
    }
}

#[tokio::test]
async fn a_worker_that_shuts_down_gives_everything_back_uncounted_whatever_its_lease() {
    let desk = Desk::new().await;
    let future = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "workers", future, "w")).await;
    let given_back = entry("s:1:1", 1, true, b"raw");
    desk.hold("t", &given_back).await;
    assert_eq!(desk.take_back("released", 100, MANY).await, (1, 0));
    assert_eq!(desk.scheduled().await, [given_back]);
    let dump = desk.dump().await;
    assert_eq!(dump["stats"].0, hash(&[("released", "1")]));
    assert!(!dump.contains_key("workers"), "{dump:?}");
}

#[tokio::test]
async fn strays_go_back_uncounted_and_the_worker_keeps_its_lease_and_the_rest() {
    let desk = Desk::new().await;
    let future = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "workers", future, "w")).await;
    for token in ["stray", "mine"] {
        desk.hold(token, &entry(token, 0, false, b"raw")).await;
    }
    let strays = Reap { tokens: &["gone already", "stray"], ..call("stray", 100, MANY) };
    assert_eq!(desk.run(&strays).await, TakenBack { moved: 1, remaining: 1 });
    assert_eq!(desk.scheduled().await, [entry("stray", 0, false, b"raw")]);
    let dump = desk.dump().await;
    assert_eq!(dump["active"].0, hash(&[("mine", entry("mine", 0, false, b"raw"))]));
    assert_eq!(dump["stats"].0, hash(&[("stray", "1")]));
    desk.changes_nothing(&strays, TakenBack { moved: 0, remaining: 1 }).await;

    let last = Reap { tokens: &["mine"], ..call("stray", 100, MANY) };
    assert_eq!(desk.run(&last).await, TakenBack { moved: 1, remaining: 0 });
    assert!(desk.dump().await.contains_key("workers"));
}

/// More than Lua's `unpack` takes.
#[tokio::test]
async fn any_number_of_strays_may_be_named() {
    let desk = Desk::new().await;
    desk.hold("t8999", &entry("s:1:1", 0, false, b"raw")).await;
    let tokens: Vec<String> = (0..9_000).map(|n| format!("t{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let strays = Reap { tokens: &tokens, ..call("stray", 100, MANY) };
    assert_eq!(desk.run(&strays).await, TakenBack { moved: 1, remaining: 0 });
}

#[tokio::test]
async fn tasks_are_taken_back_in_batches_and_the_worker_is_forgotten_with_the_last() {
    let desk = Desk::new().await;
    desk.lease_ended().await;
    for n in 0..25 {
        desk.hold(&format!("t{n}"), &entry(&format!("s:1:{n}"), 0, false, b"raw")).await;
    }
    for (most, expected, known) in [(10, (10, 15), 1), (10, (10, 5), 1), (10, (5, 0), 0)] {
        assert_eq!(desk.take_back("reaped", most, MANY).await, expected);
        assert_eq!(desk.ask::<u8>(("ZCARD", "workers")).await, known);
    }
    assert_eq!(desk.scheduled().await.len(), 25);
}

#[tokio::test]
async fn large_tasks_are_taken_back_few_at_a_time() {
    let desk = Desk::new().await;
    desk.lease_ended().await;
    for n in 0..5 {
        let serial = format!("s:1:{n}");
        desk.hold(&serial, &entry(&serial, 0, false, &vec![b'x'; 40_000])).await;
    }
    assert_eq!(desk.take_back("reaped", 100, 100_000).await, (3, 2));
    assert_eq!(desk.take_back("reaped", 100, 1).await, (1, 1));
    assert_eq!(desk.take_back("reaped", 100, 100_000).await, (1, 0));
}

/// A worker may hold tens of thousands, each of a megabyte.
#[tokio::test]
async fn no_more_tasks_are_read_than_taken_back() {
    let desk = Desk::new().await;
    desk.lease_ended().await;
    for n in 0..3_000 {
        desk.hold(&format!("t{n}"), &entry(&format!("s:1:{n}"), 0, false, b"raw")).await;
    }
    let () = desk.ask(("CONFIG", "RESETSTAT")).await;
    assert_eq!(desk.take_back("reaped", 100, MANY).await, (100, 2_900));
    let stats: String = desk.ask(("INFO", "commandstats")).await;
    assert!(stats.contains("cmdstat_hget:calls=100,"), "{stats}");
    for all in ["hkeys", "hgetall", "hscan", "hvals"] {
        assert!(!stats.contains(&format!("cmdstat_{all}:")), "{stats}");
    }
}

#[tokio::test]
async fn an_unreadable_entry_goes_back_with_all_its_bytes() {
    let desk = Desk::new().await;
    desk.lease_ended().await;
    // The last looks like a header but is not one: no newline follows it.
    let unread: [&[u8]; 4] = [b"\xffodd\nraw", b"a b c d e\nraw", b"", b"s:1:1 1000 0 0 -"];
    for (n, entry) in unread.into_iter().enumerate() {
        desk.hold(&format!("t{n}"), entry).await;
    }
    assert_eq!(desk.take_back("reaped", 100, MANY).await, (4, 0));
    let mut found = desk.scheduled().await;
    let mut expected = unread.to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for why in ["reaped", "released"] {
        for key in ["workers", "active", "scheduled", "stored"] {
            let desk = Desk::new().await;
            desk.lease_ended().await;
            desk.hold("t", b"h\nraw").await;
            let () = desk.ask(("SET", key, "something else")).await;
            desk.refuses(&call(why, 100, MANY)).await;
        }
    }
}
