//! finish.lua: tasks are completed, each fenced on its own. Replies are tested in `reply.rs`.

use std::time::Duration;

use redial_core::consumer::{ClaimId, Completion, TakenBack};
use redial_core::script::ending::{Ending, FinishedTask, FinishedTasks, ReplyRoute};
use redial_core::script::task::Finish;
use redial_core::{TaskId, WorkerId};

use super::{Desk, Held, entry, escaped, hash};

const TTL: u64 = 50_000;
pub(crate) const RESULT: &str = "{\"status\":\"ok\"}";

pub(crate) fn call<'a>(tasks: &'a [FinishedTask<'a>]) -> Finish<'a> {
    Finish {
        held: "active",
        stats: "stats",
        replies: "replies",
        waiters: "waiters",
        waiting: "waiting",
        stored: "stored",
        scheduled: "scheduled",
        tasks: FinishedTasks(tasks),
    }
}

impl Desk {
    /// Completes tasks. For each: whether it was still held.
    pub(crate) async fn finish_all(&self, tasks: &[FinishedTask<'_>]) -> Vec<bool> {
        self.run(&call(tasks)).await.were_held(tasks.len())
    }

    /// Completes tasks that were all lost: that leaves every key as it was.
    pub(crate) async fn finds_lost(&self, tasks: &[FinishedTask<'_>]) {
        let before = self.dump().await;
        assert_eq!(self.finish_all(tasks).await, vec![false; tasks.len()]);
        assert_eq!(self.dump().await, before);
    }
}

/// A task without a reply.
pub(crate) fn plain<'a>(token: &'a str, result_key: &'a str) -> FinishedTask<'a> {
    let ending =
        Ending { result_key, ttl_ms: TTL, result: RESULT, reply: ReplyRoute::None, stream: None, follow_ups: &[] };
    FinishedTask { token, ending }
}

#[tokio::test]
async fn each_task_of_a_batch_gets_its_result_and_a_lost_one_gets_nothing() {
    let desk = Desk::new().await;
    for token in ["t1", "t3", "kept"] {
        desk.hold(token, &entry(token, 0, true, b"raw")).await;
    }
    let tasks = [plain("t1", "r1"), plain("lost", "r2"), plain("t3", "r3")];

    assert_eq!(desk.finish_all(&tasks).await, [true, false, true]);

    let dump = desk.dump().await;
    let kept = entry("kept", 0, true, b"raw");
    assert_eq!(dump["active"].0, hash(&[("kept", kept)]));
    assert_eq!(dump["stats"].0, hash(&[("complete", "2")]));
    for result_key in ["r1", "r3"] {
        assert_eq!(dump[result_key], (Held::Text(escaped(RESULT.as_bytes())), true));
    }
    assert_eq!(dump.len(), 4, "{dump:?}");
    let ttl: u64 = desk.ask(("PTTL", "r1")).await;
    assert!((TTL - 5_000..=TTL).contains(&ttl), "{ttl}");

    desk.finds_lost(&tasks).await;
}

#[tokio::test]
async fn tasks_of_a_batch_that_end_in_different_ways_keep_their_keys_and_times_to_live() {
    let desk = Desk::new().await;
    let follow_ups = ["next".to_owned()];
    let ending = |ttl_ms, reply, follow_ups| Ending { ttl_ms, reply, follow_ups, ..plain("", "").ending };
    let none = ReplyRoute::None;
    let endings = [
        ending(TTL, none, &[][..]),
        ending(TTL, none, &[]),
        ending(2 * TTL, none, &[]),
        ending(TTL, ReplyRoute::Push("list"), &[]),
        ending(TTL, none, &follow_ups),
        ending(TTL, none, &[]),
        ending(TTL, none, &[]),
    ];
    let keys: Vec<_> = (0..endings.len()).map(|n| [format!("t{n}"), format!("r{n}"), format!("result {n}")]).collect();
    let tasks: Vec<_> = endings
        .into_iter()
        .zip(&keys)
        .map(|(ending, [token, result_key, result])| FinishedTask {
            token,
            ending: Ending { result_key, result, ..ending },
        })
        .collect();
    let was_held = |n: usize| n != 1 && n != 5;
    for (n, task) in tasks.iter().enumerate().filter(|(n, _)| was_held(*n)) {
        desk.hold(task.token, &entry(&n.to_string(), 0, true, b"raw")).await;
    }

    assert_eq!(desk.finish_all(&tasks).await, (0..tasks.len()).map(was_held).collect::<Vec<_>>());

    let dump = desk.dump().await;
    for (n, [_, result_key, result]) in keys.iter().enumerate() {
        let expected = was_held(n).then(|| Held::Text(result.clone()));
        assert_eq!(dump.get(result_key).map(|(held, _)| held), expected.as_ref(), "{n}");
        let ttl: i64 = desk.ask(("PTTL", result_key)).await;
        assert_eq!(ttl > i64::try_from(TTL).unwrap(), n == 2, "{n}: {ttl}");
    }
    assert_eq!(desk.ask::<Vec<String>>(("LRANGE", "list", 0, -1)).await, ["result 3"]);
    assert_eq!(desk.ask::<Vec<String>>(("LRANGE", "waiting", 0, -1)).await, ["next"]);
    desk.finds_lost(&tasks).await;
}

#[tokio::test]
async fn a_task_named_twice_in_a_batch_is_finished_once() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("t", 0, false, b"raw")).await;
    let batch = [plain("t", "r1"), plain("t", "r2")];
    assert_eq!(desk.finish_all(&batch).await, [true, false]);
    let dump = desk.dump().await;
    assert_eq!(dump["stats"].0, hash(&[("complete", "1")]));
    assert!(!dump.contains_key("r2"));
}

#[tokio::test]
async fn a_batch_that_was_lost_as_a_whole_writes_nothing_at_all() {
    let desk = Desk::new().await;
    let batch = [plain("t1", "r1"), plain("t2", "r2")];
    desk.finds_lost(&batch).await;
    desk.finds_lost(&[]).await;
}

#[tokio::test]
async fn a_result_replaces_whatever_stood_under_its_key() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let () = desk.ask(("LPUSH", "r", "no result")).await;
    assert_eq!(desk.finish_all(&[plain("t", "r")]).await, [true]);
    assert_eq!(desk.dump().await["r"].0, Held::Text(escaped(RESULT.as_bytes())));
}

#[tokio::test]
async fn an_uploaded_result_is_moved_to_its_key_whoever_subscribed_gets_it_and_a_lost_task_leaves_nothing() {
    let desk = Desk::new().await;
    let uploaded = |token: &'static str, upload: &'static str| {
        let task = plain(token, token);
        FinishedTask { ending: Ending { result: "", reply: ReplyRoute::Uploaded(upload), ..task.ending }, ..task }
    };
    for token in ["t1", "t2"] {
        desk.hold(token, b"h\nraw").await;
    }
    let upload = async |key: &str| {
        let () = desk.ask(("SET", key, RESULT, "PX", 1_000)).await;
    };
    let () = desk.ask(("HSET", "waiters", "t1", "9999999999999 answers\n")).await;
    upload("u1").await;
    upload("u3").await;
    // None of the batch is finished if one is not there.
    let batch = [plain("t2", "r2"), uploaded("t1", "u1"), uploaded("lost", "u3"), uploaded("lost", "gone")];
    desk.refuses_with(&call(&batch), "NOUPLOAD").await;

    assert_eq!(desk.finish_all(&batch[..3]).await, [true, true, false]);

    let dump = desk.dump().await;
    let stored = (Held::Text(escaped(RESULT.as_bytes())), true);
    assert_eq!((&dump["t1"], &dump["r2"]), (&stored, &stored));
    let ttl: u64 = desk.ask(("PTTL", "t1")).await;
    assert!((TTL - 5_000..=TTL).contains(&ttl), "{ttl}");
    assert_eq!(desk.ask::<String>(("RPOP", "answers")).await, format!("t1\n{RESULT}"));
    assert!(["u1", "u3", "lost"].iter().all(|key| !dump.contains_key(*key)), "{dump:?}");
    // One alone takes another way through the script.
    desk.hold("t4", b"h\nraw").await;
    let alone = [uploaded("t4", "u4")];
    desk.refuses_with(&call(&alone), "NOUPLOAD").await;
    upload("u4").await;
    let () = desk.ask(("ACL", "SETUSER", "default", "-rename")).await;
    desk.refuses_with(&call(&alone), "can't run this command").await;
    let () = desk.ask(("ACL", "SETUSER", "default", "+rename")).await;
    assert_eq!(desk.finish_all(&alone).await, [true]);
    assert_eq!(desk.dump().await["t4"], stored);
}

#[tokio::test]
async fn counters_and_subscriptions_of_another_type_stop_nothing() {
    let desk = Desk::new().await;
    for key in ["stats", "replies", "waiters"] {
        let () = desk.ask(("SET", key, "something else")).await;
    }
    desk.hold("t", b"h\nraw").await;
    assert_eq!(desk.finish_all(&[plain("t", "r")]).await, [true]);
    assert_eq!(desk.dump().await["r"].0, Held::Text(escaped(RESULT.as_bytes())));
    // But a reply that has to wait there must not get lost.
    desk.hold("t", b"h\nraw").await;
    let mut task = plain("t", "r");
    task.ending.reply = ReplyRoute::Later("elsewhere");
    desk.refuses(&call(&[task])).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_a_batch_before_it_finishes_anything() {
    let follow_ups = ["then".to_owned()];
    let chained =
        || FinishedTask { token: "t2", ending: Ending { follow_ups: &follow_ups, ..plain("t2", "r2").ending } };
    for (key, tasks) in [("active", vec![plain("t", "r")]), ("waiting", vec![plain("t", "r"), chained()])] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        desk.hold("t2", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call(&tasks)).await;
    }
}

#[tokio::test]
async fn a_waiting_list_of_another_type_stops_no_task_that_pushes_nothing_there() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let () = desk.ask(("SET", "waiting", "something else")).await;
    assert_eq!(desk.finish_all(&[plain("t", "r")]).await, [true]);
    assert_eq!(desk.dump().await["r"].0, Held::Text(escaped(RESULT.as_bytes())));
}

#[tokio::test]
async fn a_paused_worker_cannot_finish_a_task_it_lost() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "redial:{q}", "task")).await;
    let (paused, other) =
        (desk.consumer("paused", Duration::from_millis(1)), desk.consumer("other", Duration::from_secs(60)));
    let claim = |worker: &str| ClaimId::new(&WorkerId::from_redis(worker.into()), 1);
    let lost = paused.claim(&claim("paused"), 1).await.unwrap().entries;
    let leases = other.heartbeat().await.unwrap().leases;
    let [(worker, renewal)] = leases.as_slice() else { panic!("{leases:?}") };
    assert_eq!(*worker, WorkerId::from_redis("paused".into()));
    assert_eq!(other.reap(worker, renewal).await.unwrap(), TakenBack { moved: 1, remaining: 0 });
    let won = other.claim(&claim("other"), 1).await.unwrap().entries;
    assert_eq!((won[0].header.crashes, &*won[0].raw), (1, &b"task"[..]));
    assert_eq!(won[0].header.serial, lost[0].header.serial);

    let answer = |entry: &redial_core::queue::entry::Entry, result: &str| Completion {
        token: entry.token.clone(),
        id: TaskId::new("a").unwrap(),
        result: result.into(),
        ttl: Duration::ZERO, // Redis refuses a time to live of 0: it must not come to that.
        reply_to: None,
        last_entry: None,
        follow_ups: Vec::new(),
    };
    let before = desk.dump().await;
    let late = [answer(&lost[0], "late")];
    assert_eq!(paused.finish(&late).await.unwrap(), [false]);
    assert!(!paused.bury(&lost[0].token, "{}", Some(&late[0])).await.unwrap());
    assert!(!paused.mark_started(&lost[0].token, &lost[0].header).await.unwrap());
    assert_eq!(desk.dump().await, before);
    let mine = [answer(&won[0], "mine")];
    assert_eq!(other.finish(&mine).await.unwrap(), [true]);
}

#[tokio::test]
async fn follow_ups_are_pushed_with_the_result_of_each_task_and_once() {
    let desk = Desk::new().await;
    for token in ["t1", "t2", "t3"] {
        desk.hold(token, &entry(token, 0, true, b"raw")).await;
    }
    let follow_ups = [vec!["a".to_owned(), "b\nb".into()], vec!["of the lost".into()], vec![], vec!["c".into()]];
    let tasks: Vec<_> = ["t1", "lost", "t2", "t3"]
        .into_iter()
        .zip(&follow_ups)
        .map(|(token, follow_ups)| FinishedTask { token, ending: Ending { follow_ups, ..plain(token, token).ending } })
        .collect();
    assert_eq!(desk.finish_all(&tasks).await, [true, false, true, true]);
    let waiting: Vec<String> = desk.ask(("LRANGE", "waiting", 0, -1)).await;
    assert_eq!(waiting, ["c", "b\nb", "a"]);
    desk.finds_lost(&tasks).await;
}

#[tokio::test]
async fn a_delivery_is_stored_as_due_now_where_no_producer_writes() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("t", 0, true, b"raw")).await;
    let follow_ups = ["delivery {\"callback_of\":\"a\"}".to_owned(), "{\"next\":1}".to_owned()];
    let tasks = [FinishedTask { token: "t", ending: Ending { follow_ups: &follow_ups, ..plain("t", "t").ending } }];
    for key in ["stored", "scheduled"] {
        let () = desk.ask(("SET", key, "of another type")).await;
        desk.refuses(&call(&tasks)).await;
        let () = desk.ask(("DEL", key)).await;
    }
    assert_eq!(desk.finish_all(&tasks).await, [true]);
    let stored: String = desk.ask(("HGET", "stored", "t:callback")).await;
    assert!(stored.starts_with("t:callback ") && stored.ends_with(" 0 0 -\n{\"callback_of\":\"a\"}"), "{stored}");
    let (due, now): (u64, Vec<u64>) = (desk.ask(("ZSCORE", "scheduled", "t:callback")).await, desk.ask("TIME").await);
    assert!(due <= now[0] * 1_000 + 1_000, "{due}");
    let waiting: Vec<String> = desk.ask(("LRANGE", "waiting", 0, -1)).await;
    assert_eq!(waiting, ["{\"next\":1}"]);
    desk.finds_lost(&tasks).await;
}
