//! reschedule.lua: a task goes back, for later or at once.

use std::time::Duration;

use redial_core::consumer::{ClaimId, RescheduleReason};
use redial_core::queue::entry::StartMarker;
use redial_core::script::task::Reschedule;
use redial_core::{UnixMs, WorkerId};

use super::{AWKWARD, Desk, entry, hash, sorted};

const HEADER: &str = "s:1:1 1000 1 0 {\"n\":1}";

fn call(token: &str, wait_ms: u64, not_before_ms: u64, why: RescheduleReason) -> Reschedule<'_> {
    Reschedule {
        active: "active",
        scheduled: "scheduled",
        stored: "stored",
        watch: "watch",
        stats: "stats",
        token,
        serial: "s:1:1",
        wait_ms,
        not_before_ms,
        deadline_ms: None,
        header: HEADER,
        reason: why.as_str(),
    }
}

#[tokio::test]
async fn a_task_waits_with_its_new_header_and_its_old_bytes() {
    for raw in AWKWARD {
        let desk = Desk::new().await;
        desk.hold("t", &entry("s:1:1", 1, true, raw)).await;
        let before = desk.now().await;
        let retry = call("t", 5_000, 0, RescheduleReason::Retried);
        let due: u64 = desk.run(&retry).await;
        assert!((before + 5_000..before + 15_000).contains(&due));
        let dump = desk.dump().await;
        let waits = [HEADER.as_bytes(), b"\n", raw].concat();
        assert_eq!(dump["scheduled"], (sorted(&[("s:1:1", due)]), false));
        assert_eq!(dump["stored"], (hash(&[("s:1:1", waits)]), false));
        assert_eq!(dump["stats"].0, hash(&[("retried", "1")]));
        assert_eq!(dump.len(), 3, "{dump:?}");
        // Sent twice: the lease is gone with the first.
        desk.changes_nothing(&retry, 0).await;
    }
}

#[tokio::test]
async fn a_task_is_due_after_its_wait_and_not_before_its_earliest_time() {
    let desk = Desk::new().await;
    let now = desk.now().await;
    for (n, (wait, not_before, least)) in
        [(9_000, now + 20_000, now + 20_000), (20_000, now + 9_000, now + 20_000), (0, 0, now)].into_iter().enumerate()
    {
        let token = format!("t{n}");
        desk.hold(&token, b"h\nraw").await;
        let due: u64 = desk.run(&call(&token, wait, not_before, RescheduleReason::Deferred)).await;
        assert!((least..least + 5_000).contains(&due), "{due} {least}");
    }
}

#[tokio::test]
async fn a_deadline_is_watched_from_the_same_moment_until_the_task_is_claimed() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let with_deadline = Reschedule { deadline_ms: Some(UnixMs(99_000)), ..call("t", 0, 0, RescheduleReason::Deferred) };
    assert!(desk.run(&with_deadline).await > 0);
    assert_eq!(desk.dump().await["watch"].0, sorted(&[("s:1:1", 99_000)]));
    assert_eq!(desk.claim(1, 10, 1_000).await.entries.len(), 1);
    let dump = desk.dump().await;
    assert!(!["watch", "stored", "scheduled"].iter().any(|key| dump.contains_key(*key)), "{dump:?}");
}

#[tokio::test]
async fn a_time_beyond_the_exact_scores_is_capped() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let due: u64 = desk.run(&call("t", 0, u64::MAX, RescheduleReason::Deferred)).await;
    assert_eq!(due, 1 << 53);
    let reply = desk.claim(1, 10, 1_000).await;
    assert_eq!((reply.next_due, reply.entries.len()), (Some(UnixMs(1 << 53)), 0));
}

#[tokio::test]
async fn each_reason_has_its_counter() {
    let desk = Desk::new().await;
    for why in [RescheduleReason::Retried, RescheduleReason::Deferred, RescheduleReason::Released] {
        desk.hold("t", b"h\nraw").await;
        let due: u64 = desk.run(&call("t", 0, 0, why)).await;
        assert!(due > 0);
    }
    let counted = hash(&[("retried", "1"), ("deferred", "1"), ("released", "1")]);
    assert_eq!(desk.dump().await["stats"].0, counted);
}

#[tokio::test]
async fn a_worker_that_lost_the_task_changes_nothing() {
    let desk = Desk::new().await;
    desk.hold("other", b"h\nraw").await;
    desk.changes_nothing(&call("t", 5, 0, RescheduleReason::Retried), 0).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["active", "scheduled", "stored", "watch"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("t", 5, 0, RescheduleReason::Retried)).await;
    }
}

#[tokio::test]
async fn a_retried_task_comes_back_with_what_is_known_of_it() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "redial:{q}", "task\n")).await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    let claim = |n| ClaimId::new(&WorkerId::from_redis("w".into()), n);
    let mut first = consumer.claim(&claim(1), 1).await.unwrap().entries;
    let mut entry = first.pop().unwrap();
    entry.header.started = StartMarker::Calling;
    entry.header.state.counted = 3;
    let back = || {
        let (wait, why) = (Duration::from_millis(1), RescheduleReason::Retried);
        consumer.reschedule(&entry.token, &entry.header, wait, UnixMs(0), None, why)
    };
    assert!(back().await.unwrap().is_some());
    let lost = back().await.unwrap();
    assert_eq!(lost, None);
    desk.pass(5).await;
    let again = consumer.claim(&claim(2), 1).await.unwrap().entries;
    assert_eq!(again[0].header, entry.header);
    assert_eq!(again[0].raw, b"task\n");
    assert_ne!(again[0].token, entry.token);
}
