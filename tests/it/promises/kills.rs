//! Workers killed with SIGKILL or frozen at any instant: no task is lost, and none is answered twice.

use std::time::{Duration, Instant};

use redial_tests::{Reply, Worker, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::snapshot::QueueSnapshot;
use super::{CalledPaths, SOON, Stage, assert_counted, attempts, ids, now_ms, number};

#[tokio::test]
async fn five_thousand_tasks_survive_a_worker_kill_every_second() {
    const TASKS: usize = 5_000;
    const KILLS: usize = 20;
    const HELD: usize = 8;
    let stage = Stage::slow(Duration::from_millis(95)).await;
    let start = || stage.worker().env("REDIAL_CONCURRENCY", HELD.to_string()).spawn();
    let mut workers: Vec<Worker> = (0..3).map(|_| start()).collect();
    let ids = ids("t", TASKS);
    stage.push_many(&ids, "/", &json!({})).await;

    let began = Instant::now();
    for kill in 0..KILLS {
        // Irregular, so that the kills do not always hit the same phase of the calls.
        let at = Duration::from_millis(1_000 * (kill as u64 + 1) + kill as u64 * 37 % 100);
        sleep(at.saturating_sub(began.elapsed())).await;
        workers[kill % 3].kill9();
        QueueSnapshot::take(&stage.redis).await.assert_each_once(TASKS);
        workers[kill % 3] = start();
    }

    let results = stage.queue.wait_results(&ids, Duration::from_secs(300)).await;
    let unlucky: Vec<&Value> = results.iter().filter(|result| result["status"] != "ok").collect();
    // A task that three killed workers happened to hold is dead-lettered; by chance that may be one or two.
    assert!(unlucky.len() <= 3, "{} failed: {unlucky:?}", unlucky.len());
    assert!(unlucky.iter().all(|result| result["reason"] == "crashed_worker"), "{unlucky:?}");
    let nothing_left = || async {
        let snapshot = QueueSnapshot::take(&stage.redis).await;
        snapshot.assert_each_once(TASKS);
        (snapshot.count("ended") == TASKS).then_some(())
    };
    eventually(SOON, nothing_left).await;
    // Whoever holds nothing has no lease.
    let nobody = || async { (members(&stage, "workers").await == 0).then_some(()) };
    eventually(SOON, nobody).await;
    // Only tasks that a killed worker held are called again.
    let calls = stage.upstream.count();
    assert!(calls <= (TASKS + KILLS * HELD) as u64, "{calls} calls");
}

#[tokio::test]
async fn tasks_of_a_killed_worker_are_answered_within_15_s_by_default() {
    const HELD: usize = 50;
    let stage = Stage::slow(Duration::from_secs(1)).await;
    let doomed = stage.ready_worker().await;
    let ids = ids("t", HELD);
    stage.push_many(&ids, "/", &json!({})).await;
    stage.wait_in_flight(HELD).await;
    let heir = stage.ready_worker().await;

    let killed = now_ms();
    doomed.kill9();
    QueueSnapshot::take(&stage.redis).await.assert_each_once(HELD);
    for result in stage.queue.wait_results(&ids, SOON).await {
        assert_eq!(result["status"], "ok");
        let after = number(&result["finished_at_ms"]).saturating_sub(killed);
        assert!(after <= 15_000, "answered {after} ms after the kill");
    }
    assert_eq!(stage.upstream.count(), 2 * HELD as u64);
    assert_counted(&heir, "redial_tasks_reaped_total", HELD as u64).await;
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(HELD);
}

#[tokio::test]
async fn a_frozen_worker_cannot_complete_retry_or_bury_a_task_it_lost() {
    let paths = ["/good", "/passing", "/final"];
    let seen = CalledPaths::default();
    let stage = Stage::answering(move |request| match request.route() {
        _ if !seen.is_first_call(request) => Reply::ok().body("the other"),
        "/good" => Reply::ok().body("the frozen").after(Duration::from_millis(500)),
        "/passing" => Reply::status(503).after(Duration::from_millis(500)),
        _ => Reply::status(400).after(Duration::from_millis(500)),
    })
    .await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    let frozen = start();
    for path in paths {
        let task = json!({"id": path, "url": stage.url(path), "reply_to": format!("answers:{path}")});
        stage.queue.push(task.to_string()).await;
    }
    stage.wait_in_flight(paths.len()).await;
    frozen.pause();
    let other = start();
    let results = stage.queue.wait_results(&paths, SOON).await;

    frozen.resume();
    let refused = || async { (frozen.log().matches("lease lost").count() == 3).then_some(()) };
    eventually(SOON, refused).await;
    assert_counted(&frozen, "redial_lost_leases_total", 3).await;
    assert!(!frozen.log().contains("task is dead"), "{}", frozen.log());
    for (path, before) in paths.iter().zip(&results) {
        assert_eq!(before["body_text"], "the other", "{before}");
        assert_eq!(stage.queue.result(path).await.as_ref(), Some(before), "one result stands");
        assert_eq!(stage.redis.cli(&["LLEN", &format!("answers:{path}")]).await, "1");
    }
    assert_eq!(stage.queue.dead().await, []);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(paths.len());

    // And it continues to work normally.
    drop(other);
    assert_eq!(stage.answer(json!({"id": "later", "url": stage.url("/good")})).await["status"], "ok");
}

#[tokio::test]
async fn a_once_only_call_that_may_have_been_sent_is_not_repeated_by_the_next_worker() {
    let stage = Stage::slow(Duration::from_secs(60)).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    let doomed = start();
    let tasks = [
        json!({"id": "plain"}),
        // Its deadline has passed by the time it is found, but an unknown outcome takes precedence.
        json!({"id": "late", "ttl_ms": 500}),
    ];
    for mut task in tasks.clone() {
        task["url"] = stage.url("/").into();
        task["effect"] = "once".into();
        task["body"] = json!({"amount": 1});
        stage.queue.push(task.to_string()).await;
    }
    stage.wait_in_flight(2).await;
    doomed.kill9();
    let _heir = start();
    for task in tasks {
        let result = stage.queue.wait_result(task["id"].as_str().unwrap(), SOON).await;
        assert_eq!(result["reason"], "outcome_unknown", "{result}");
        assert_eq!(attempts(&result), 0, "what became of the call nobody knows");
    }
    assert_eq!(stage.upstream.count(), 2);
}

#[tokio::test]
async fn a_worker_killed_at_any_instant_of_a_short_call_loses_nothing() {
    const TASKS: usize = 600;
    let stage = Stage::slow(Duration::ZERO).await;
    let start = || {
        let worker = stage.worker().env("REDIAL_LEASE_MS", "1000");
        worker.env("REDIAL_CONCURRENCY", "16").spawn()
    };
    let ids = ids("t", TASKS);
    stage.push_many(&ids, "/", &json!({"reply_to": "answers:mine"})).await;
    // Claims, calls and completions follow each other so closely that a kill may hit any of them.
    for kill in 0..8 {
        let worker = start();
        let so_far = stage.upstream.count();
        let working = || async { (stage.upstream.count() > so_far + kill).then_some(()) };
        eventually(SOON, working).await;
        worker.kill9();
        QueueSnapshot::take(&stage.redis).await.assert_each_once(TASKS);
    }
    let _last = start();
    let results = stage.queue.wait_results(&ids, SOON).await;
    // Tasks of a killed worker are claimed first by the next one, so by chance three killed workers may have held the same task.
    let unlucky: Vec<&Value> = results.iter().filter(|result| result["status"] != "ok").collect();
    assert!(unlucky.len() <= 3 && unlucky.iter().all(|result| result["reason"] == "crashed_worker"), "{unlucky:?}");
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(TASKS);
    let replies = stage.redis.cli(&["LLEN", "answers:mine"]).await;
    assert_eq!(replies, TASKS.to_string(), "one reply per task");
}

/// The size of one of the queue's sorted sets.
async fn members(stage: &Stage, set: &str) -> usize {
    let count = stage.redis.cli(&["ZCARD", &format!("redial:{{default}}:{set}")]).await;
    count.parse().expect("a count is a number")
}
