//! finish.lua: answers, fenced one by one. What becomes of a reply is in `reply.rs`.

use std::time::Duration;

use redial_core::consumer::{ClaimId, Completion, TakenBack};
use redial_core::script::{FINISH, Invocation};
use redial_core::{TaskId, WorkerId};

use super::{Desk, Held, entry, hash};

const TTL: u64 = 50_000;

pub(crate) fn call() -> Invocation {
    FINISH.call().key("active").key("stats").key("replies").key("waiters").key("waiting")
}

/// Adds a task without a reply.
pub(crate) fn plain(call: Invocation, token: &str, result_key: &str) -> Invocation {
    let result = format!("{{\"id\":\"{token}\"}}");
    let call = call.key(result_key).arg(token).arg(TTL).arg(result);
    call.arg("none").arg("").arg(0)
}

#[tokio::test]
async fn each_task_of_a_batch_gets_its_result_and_those_lost_get_nothing() {
    let desk = Desk::new().await;
    for token in ["t1", "t3", "kept"] {
        desk.hold(token, &entry(token, 0, true, b"raw")).await;
    }
    let batch = plain(call(), "t1", "r1");
    let batch = plain(batch, "lost", "r2");
    let batch = plain(batch, "t3", "r3");

    assert_eq!(desk.run::<Vec<u8>>(&batch).await, [1, 0, 1]);

    let dump = desk.dump().await;
    let kept = entry("kept", 0, true, b"raw");
    assert_eq!(dump["active"].0, hash(&[("kept", kept)]));
    assert_eq!(dump["stats"].0, hash(&[("complete", "2")]));
    assert_eq!(dump["r1"], (Held::Text("{\\\"id\\\":\\\"t1\\\"}".into()), true));
    assert_eq!(dump["r3"], (Held::Text("{\\\"id\\\":\\\"t3\\\"}".into()), true));
    assert_eq!(dump.len(), 4, "{dump:?}");
    let ttl: u64 = desk.ask(("PTTL", "r1")).await;
    assert!((TTL - 5_000..=TTL).contains(&ttl), "{ttl}");

    desk.changes_nothing(&batch, vec![0, 0, 0]).await;
}

#[tokio::test]
async fn a_task_named_twice_in_a_batch_is_finished_once() {
    let desk = Desk::new().await;
    desk.hold("t", &entry("t", 0, false, b"raw")).await;
    let batch = plain(plain(call(), "t", "r1"), "t", "r2");
    assert_eq!(desk.run::<Vec<u8>>(&batch).await, [1, 0]);
    let dump = desk.dump().await;
    assert_eq!(dump["stats"].0, hash(&[("complete", "1")]));
    assert!(!dump.contains_key("r2"));
}

#[tokio::test]
async fn a_batch_that_was_lost_as_a_whole_writes_nothing_at_all() {
    let desk = Desk::new().await;
    let batch = plain(plain(call(), "t1", "r1"), "t2", "r2");
    desk.changes_nothing(&batch, vec![0, 0]).await;
    desk.changes_nothing(&call(), Vec::<u8>::new()).await;
}

#[tokio::test]
async fn a_result_replaces_whatever_stood_under_its_key() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let () = desk.ask(("LPUSH", "r", "no result")).await;
    assert_eq!(desk.run::<Vec<u8>>(&plain(call(), "t", "r")).await, [1]);
    assert_eq!(desk.dump().await["r"].0, Held::Text("{\\\"id\\\":\\\"t\\\"}".into()));
}

#[tokio::test]
async fn a_key_of_another_type_stops_a_batch_before_it_finishes_anything() {
    for key in ["active", "stats", "replies", "waiters"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&plain(call(), "t", "r")).await;
    }
}

#[tokio::test]
async fn a_paused_worker_cannot_finish_a_task_it_lost() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "redial:{q}", "task")).await;
    let (paused, other) =
        (desk.consumer("paused", Duration::from_millis(1)), desk.consumer("other", Duration::from_secs(60)));
    let claim = |worker: &str| ClaimId::new(&WorkerId::from_redis(worker.into()), 1);
    let lost = paused.claim(&claim("paused"), 1).await.unwrap().entries;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let ended = other.heartbeat().await.unwrap().ended;
    assert_eq!(ended, [WorkerId::from_redis("paused".into())]);
    assert_eq!(other.reap(&ended[0]).await.unwrap(), TakenBack { moved: 1, remaining: 0 });
    let won = other.claim(&claim("other"), 1).await.unwrap().entries;
    assert_eq!((won[0].header.crashes, &*won[0].raw), (1, &b"task"[..]));
    assert_eq!(won[0].header.serial, lost[0].header.serial);

    let answer = |entry: &redial_core::queue::entry::Entry, result: &str| Completion {
        token: entry.token.clone(),
        id: TaskId::new("a").unwrap(),
        result: result.into(),
        ttl: Duration::ZERO, // Redis refuses a time to live of 0: it must not come to that.
        reply_to: None,
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
async fn what_follows_is_pushed_with_the_result_of_each_task_and_once() {
    let desk = Desk::new().await;
    for token in ["t1", "t2", "t3"] {
        desk.hold(token, &entry(token, 0, true, b"raw")).await;
    }
    let add = |call: Invocation, token: &str, next: &[&str]| {
        let call = call.key(token).arg(token).arg(TTL).arg("result").arg("none").arg("").arg(next.len());
        next.iter().fold(call, |call, task| call.arg(*task))
    };
    let batch = || {
        let batch = add(call(), "t1", &["a", "b\nb"]);
        let batch = add(add(batch, "lost", &["of the lost"]), "t2", &[]);
        add(batch, "t3", &["c"])
    };
    assert_eq!(desk.run::<Vec<u8>>(&batch()).await, [1, 0, 1, 1]);
    let waiting: Vec<String> = desk.ask(("LRANGE", "waiting", 0, -1)).await;
    assert_eq!(waiting, ["c", "b\nb", "a"]);
    desk.changes_nothing(&batch(), vec![0_u8; 4]).await;
}
