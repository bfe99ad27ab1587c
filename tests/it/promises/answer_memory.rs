//! The memory for the answers in hand is bounded over all slots, and waiting for it is nobody's failure.

use std::time::Duration;

use redial_tests::{Reply, Worker, eventually};
use serde_json::json;

use super::wire_formats::gzip;
use super::{SOON, Stage, answered, attempts, counter, ids};

const MIB: usize = 1 << 20;

/// Waits for these results, which are large, without reading them.
async fn wait_stored(stage: &Stage, ids: &[String], least_bytes: usize) {
    for id in ids {
        let key = stage.queue.result_key(id);
        eventually(6 * SOON, || async {
            let length: usize = stage.redis.cli(&["STRLEN", &key]).await.parse().unwrap_or_default();
            (length > least_bytes).then_some(())
        })
        .await;
        stage.redis.cli(&["UNLINK", &key]).await;
    }
}

fn worker(stage: &Stage) -> Worker {
    stage
        .worker()
        .env("REDIAL_CONCURRENCY", "64")
        .env("REDIAL_MAX_ANSWER_BYTES", (5 * MIB).to_string())
        .env("REDIAL_MAX_ANSWERS_BYTES", (16 * MIB).to_string())
        .spawn()
}

#[tokio::test]
async fn many_large_answers_at_once_do_not_fill_the_memory_of_their_worker() {
    let stage = Stage::unruly().await;
    let all = ids("t", 64);
    let worker = worker(&stage);
    worker.wait_ready().await;
    let before = worker.rss_bytes();
    // A single attempt.
    let fields = json!({"retry": {"max_attempts": 1}});
    stage.push_many(&all, "/big/4194304", &fields).await;
    wait_stored(&stage, &all, 4 * MIB).await;
    let used = (worker.peak_rss_bytes() - before) >> 20;
    // One more than the memory is on its way, and a few are being turned into results. Without a bound it is twice as much.
    assert!(used < 250, "{used} MiB");
    assert!(counter(&worker, "redial_answer_waits_total").await > 0);
}

#[tokio::test]
async fn small_answers_that_become_large_do_not_fill_it_either() {
    let bomb = gzip(&"x".repeat(4 * MIB));
    let stage = Stage::answering(move |_| Reply::ok().header("Content-Encoding", "gzip").body(bomb.clone())).await;
    let all = ids("t", 64);
    let worker = worker(&stage);
    worker.wait_ready().await;
    let before = worker.rss_bytes();
    stage.push_many(&all[..48], "/", &json!({"retry": {"max_attempts": 1}})).await;
    stage.push_many(&all[48..], "/", &json!({"retry": {"max_attempts": 1}, "stream": true})).await;
    wait_stored(&stage, &all, 4 * MIB).await;
    let used = (worker.peak_rss_bytes() - before) >> 20;
    assert!(used < 250, "{used} MiB");
}

#[tokio::test]
async fn waiting_for_memory_is_neither_a_timeout_nor_an_attempt() {
    // It begins to answer at once, and ends later.
    let stage = Stage::answering(|request| {
        let half = vec![b'x'; 600 << 10];
        let pause = if request.route() == "/slow" { Duration::from_secs(4) } else { Duration::ZERO };
        Reply::streamed([(Duration::ZERO, half), (pause, vec![b'y'; 100])])
    })
    .await;
    let worker = stage
        .worker()
        .env("REDIAL_MAX_ANSWER_BYTES", MIB.to_string())
        .env("REDIAL_MAX_ANSWERS_BYTES", MIB.to_string())
        .spawn();
    worker.wait_ready().await;
    let slow = ids("slow", 2);
    stage.push_many(&slow, "/slow", &json!({})).await;
    stage.wait_in_flight(2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let quick = ids("quick", 4);
    stage.push_many(&quick, "/quick", &json!({"timeout_ms": 2_000, "retry": {"max_attempts": 1}})).await;
    let results = stage.queue.wait_results(&quick, SOON).await;
    assert_eq!(answered(&results), 4, "{results:?}");
    assert!(results.iter().all(|result| attempts(result) == 1));
    assert_eq!(answered(&stage.queue.wait_results(&slow, SOON).await), 2);
    assert!(counter(&worker, "redial_answer_waits_total").await > 0);
    assert_eq!(counter(&worker, r#"redial_attempts_total{reason="timeout"}"#).await, 0);
}
