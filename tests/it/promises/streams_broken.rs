//! Streams that break off: upstreams that hang up, workers that die or are cut off, and tasks that are cancelled.

use std::time::{Duration, Instant};

use redial_core::queue::cancel::Cancelled;
use redial_core::{Db, EntryId, QueueName, Reason, StreamEvent};
use redial_tests::{Proxy, Reply, Request, Worker, eventually};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::streams::{Reading, id, reader, streamed};
use super::{SOON, Stage, attempts, ids};

/// An upstream whose first answer breaks off or goes on for long, and whose second one is complete.
fn first_broken(first: impl Fn() -> Reply + Send + Sync + 'static) -> impl Fn(&Request) -> Reply + Send + Sync {
    move |request| match request.nth {
        0 => first(),
        _ => Reply::streamed([(Duration::ZERO, "new "), (Duration::from_millis(300), "answer")]),
    }
}

fn half() -> Reply {
    Reply::streamed([(Duration::ZERO, "old"), (Duration::from_millis(100), "old")]).cut_off()
}

/// Some of the same every 50 ms, for as long as the test takes.
fn endless() -> Reply {
    Reply::streamed((0..1_200).map(|_| (Duration::from_millis(50), "old")))
}

#[tokio::test]
async fn a_stream_that_breaks_off_fails_the_task_unless_it_says_restart() {
    for (on_break, restarts) in [(None, 0), (Some("fail"), 0), (Some("restart"), 1)] {
        let stage = Stage::answering(first_broken(half)).await;
        let _worker = stage.ready_worker().await;
        let task = streamed(&stage, "a", &json!({"on_break": on_break, "retry": {"base_ms": 0}}));
        let reader = reader(&stage);
        let (reading, ()) = tokio::join!(Reading::all(&reader, "a"), stage.queue.push(task));
        let result = stage.queue.wait_result("a", SOON).await;
        assert_eq!(reading.restarts, restarts, "{reading:?}");
        if restarts == 0 {
            assert_eq!((&result["reason"], attempts(&result)), (&json!("outcome_unknown"), 1), "{result}");
            let Some(StreamEvent::Error(failure)) = &reading.last else { panic!("{reading:?}") };
            assert_eq!(Some(failure.error.as_str()), result["error"].as_str());
            assert_eq!((reading.text().as_str(), stage.upstream.count()), ("oldold", 1));
        } else {
            assert_eq!((&result["body_text"], attempts(&result)), (&json!("new answer"), 2), "{result}");
            assert_eq!((reading.text().as_str(), reading.last), ("new answer", Some(StreamEvent::End)));
        }
    }
}

#[tokio::test]
async fn the_stream_of_a_killed_worker_fails_or_is_begun_anew_as_the_task_says() {
    for (on_break, calls) in [("fail", 1), ("restart", 2)] {
        let stage = Stage::answering(first_broken(endless)).await;
        let start = || stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
        let doomed = start();
        doomed.wait_ready().await;
        let reader = reader(&stage);
        let mut entries = reader.read(&id("a"), EntryId::START);
        stage.queue.push(streamed(&stage, "a", &json!({"on_break": on_break}))).await;
        for _ in 0..3 {
            let _entry = timeout(SOON, entries.next()).await.unwrap().unwrap();
        }
        doomed.kill9();
        let _heir = start();
        let mut reading = Reading::default();
        while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
            reading.take(entry);
        }
        let result = stage.queue.wait_result("a", SOON).await;
        assert_eq!(stage.upstream.count(), calls, "{on_break}");
        if calls == 1 {
            assert_eq!(result["reason"], "outcome_unknown", "{result}");
            assert!(matches!(reading.last, Some(StreamEvent::Error(_))), "{reading:?}");
        } else {
            assert_eq!(result["body_text"], "new answer", "{result}");
            assert_eq!((reading.restarts, reading.text().as_str()), (1, "new answer"));
            assert_eq!(reading.last, Some(StreamEvent::End));
        }
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_appends_nothing_more() {
    let stage = Stage::answering(first_broken(endless)).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    let paused = start();
    paused.wait_ready().await;
    let reader = reader(&stage);
    let mut entries = reader.read(&id("a"), EntryId::START);
    stage.queue.push(streamed(&stage, "a", &json!({"on_break": "restart"}))).await;
    let _entry = timeout(SOON, entries.next()).await.unwrap().unwrap();
    paused.pause();
    let _heir = start();
    // It runs on while the other one streams.
    let called_again = || async { (stage.upstream.count() == 2).then_some(()) };
    eventually(SOON, called_again).await;
    paused.resume();
    let mut reading = Reading::default();
    while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
        reading.take(entry);
    }
    assert_eq!((reading.restarts, reading.text().as_str()), (1, "new answer"));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(Reading::all(&reader, "a").await.text(), "new answer");
    assert_eq!(stage.queue.wait_result("a", SOON).await["body_text"], "new answer");
}

#[tokio::test]
async fn a_worker_that_has_to_stop_says_what_becomes_of_a_stream() {
    for (on_break, reason) in [("fail", json!("outcome_unknown")), ("restart", json!(null))] {
        let stage = Stage::answering(first_broken(endless)).await;
        let worker = stage.worker().env("REDIAL_DRAIN_MS", "300").spawn();
        worker.wait_ready().await;
        let reader = reader(&stage);
        let mut entries = reader.read(&id("a"), EntryId::START);
        stage.queue.push(streamed(&stage, "a", &json!({"on_break": on_break}))).await;
        let _entry = timeout(SOON, entries.next()).await.unwrap().unwrap();
        worker.term();
        let _heir = stage.ready_worker().await;
        let result = stage.queue.wait_result("a", SOON).await;
        assert_eq!(result["reason"], reason, "{result}");
        let mut reading = Reading::default();
        while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
            reading.take(entry);
        }
        assert_eq!(reading.last == Some(StreamEvent::End), on_break == "restart", "{reading:?}");
    }
}

#[tokio::test]
async fn redis_may_be_frozen_while_an_answer_arrives() {
    // For a moment, in which the reading of the answer waits; and until long after its end.
    for away in [Duration::from_secs(1), Duration::from_secs(9)] {
        let stage = Stage::answering(|_| Reply::streamed((0..60).map(|_| (Duration::from_millis(50), "abc")))).await;
        let _worker = stage.ready_worker().await;
        let reader = reader(&stage);
        let mut entries = reader.read(&id("a"), EntryId::START);
        stage.queue.push(streamed(&stage, "a", &json!({}))).await;
        let mut reading = Reading::default();
        for _ in 0..3 {
            reading.take(timeout(SOON, entries.next()).await.unwrap().unwrap());
        }
        stage.redis.pause();
        sleep(away).await;
        stage.redis.resume();
        while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
            reading.take(entry);
        }
        assert_eq!((reading.text(), reading.last), ("abc".repeat(60), Some(StreamEvent::End)), "{away:?}");
        let result = stage.queue.wait_result("a", SOON).await;
        assert_eq!((&result["status"], &result["stream_error"]), (&json!("ok"), &json!(null)));
        assert_eq!(stage.upstream.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_redis_replies_neither_lose_nor_repeat_a_byte_of_a_stream() {
    let body = |n: u64| (0..300).map(|piece| format!("{n}:{piece} ")).collect::<Vec<String>>();
    let stage = Stage::answering(move |request| {
        Reply::streamed(body(request.nth).into_iter().map(|piece| (Duration::from_millis(5), piece)))
    })
    .await;
    let proxy = Proxy::before(stage.redis.port()).await;
    let worker = Worker::builder(proxy.url()).spawn();
    worker.wait_ready().await;
    let ids = ids("t", 20);
    stage.queue.push_all(ids.iter().map(|name| streamed(&stage, name, &json!({})))).await;
    stage.wait_in_flight(20).await;
    for _ in 0..8 {
        sleep(Duration::from_millis(150)).await;
        proxy.lose_replies(Duration::from_millis(30)).await;
    }
    assert!(proxy.lost_bytes() > 0);
    let (reader, results) = (reader(&stage), stage.queue.wait_results(&ids, SOON).await);
    for (name, result) in ids.iter().zip(&results) {
        let reading = Reading::all(&reader, name).await;
        assert_eq!((reading.restarts, reading.last.as_ref()), (0, Some(&StreamEvent::End)), "{}", worker.log());
        assert_eq!(Some(reading.text().as_str()), result["body_text"].as_str());
        assert!(reading.text().ends_with(":299 "), "{}", reading.text());
    }
    assert_eq!(stage.upstream.count(), 20);
}

#[tokio::test]
async fn cancelling_a_task_stops_its_call_by_a_push_and_not_by_a_heartbeat() {
    // One that is quiet, and one whose next bytes find out.
    for more in [Duration::from_secs(60), Duration::from_millis(20)] {
        let stage =
            Stage::answering(move |_| Reply::streamed([(Duration::ZERO, "old"), (more, "old")]).stalled()).await;
        // The next heartbeat would be 15 s away.
        let worker = stage.worker().env("REDIAL_LEASE_MS", "60000").spawn();
        worker.wait_ready().await;
        let queue = Db::open(stage.redis.url(), "redial").unwrap().queue(QueueName::new("default").unwrap());
        let mut entries = reader(&stage).read(&id("a"), EntryId::START);
        stage.queue.push(streamed(&stage, "a", &json!({"on_break": "restart"}))).await;
        let _entry = timeout(SOON, entries.next()).await.unwrap().unwrap();
        assert_eq!(stage.upstream.in_flight(), 1);
        assert!(matches!(queue.cancel(&id("a"), 1_000).await.unwrap(), Cancelled::Done(_)));
        let cancelled = Instant::now();
        eventually(SOON, || async { (stage.upstream.in_flight() == 0).then_some(()) }).await;
        let took = cancelled.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        let mut reading = Reading::default();
        while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
            reading.take(entry);
        }
        let Some(StreamEvent::Error(failure)) = reading.last else { panic!("{reading:?}") };
        assert_eq!(failure.reason, Some(Reason::Cancelled));
    }
}
