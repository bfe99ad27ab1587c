//! A worker that runs out of something on its own machine waits, and blames nobody else for it.

use std::time::Duration;

use redial_tests::{Reply, eventually};
use serde_json::{Value, json};

use super::{SOON, Stage, answered, counter, number};

/// A different address of this machine for each number, so that each is a host of its own.
fn host(n: usize) -> String {
    format!("127.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, 1 + n % 250)
}

/// How many descriptors a process has open.
fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn three_thousand_hosts_with_256_descriptors_are_all_called_and_no_breaker_opens() {
    const HOSTS: usize = 3_000;
    let stage =
        Stage::on(redial_tests::Upstream::on_all_addresses(|_| Reply::ok().after(Duration::from_millis(20))).await)
            .await;
    let worker = stage.worker().descriptor_limit(256).env("REDIAL_CONCURRENCY", "256").spawn();
    worker.wait_ready().await;
    assert!(worker.log().contains("there are few file descriptors"), "{}", worker.log());
    let url = |n: usize| stage.url("/").replace("127.0.0.1", &host(n));
    for some in (0..HOSTS).collect::<Vec<_>>().chunks(500) {
        let tasks = some.iter().map(|n| json!({"id": format!("t{n}"), "url": url(*n), "effect": "once"}).to_string());
        stage.queue.push_all(tasks).await;
    }
    let ids: Vec<String> = (0..HOSTS).map(|n| format!("t{n}")).collect();
    let done = || async {
        // Whatever the calls do, the endpoints answer and the limit is never reached.
        assert_eq!(worker.get("/healthz").await.0, 200);
        assert!(open_descriptors(worker.pid()) < 256);
        (stage.queue.results(&ids).await.iter().all(Option::is_some)).then_some(())
    };
    eventually(SOON * 2, done).await;
    let results: Vec<Value> = stage.queue.results(&ids).await.into_iter().flatten().collect();
    assert_eq!(answered(&results), HOSTS);
    assert!(results.iter().all(|result| result["attempts"].as_array().is_some_and(|attempts| attempts.len() == 1)));
    assert_eq!(counter(&worker, "redial_breakers_opened_total").await, 0);
    assert_eq!(stage.upstream.count(), HOSTS as u64, "none was called twice");
}

#[tokio::test]
async fn a_worker_raises_its_soft_limit_of_descriptors() {
    let stage = Stage::unruly().await;
    let worker = stage.worker().soft_descriptor_limit(64).spawn();
    worker.wait_ready().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "soft and hard limit are the same: {line}");
}

#[tokio::test]
async fn calls_that_wait_for_descriptors_take_no_slot_from_the_others_and_nothing_of_a_limit() {
    let stage = Stage::slow(Duration::from_secs(4)).await;
    let worker = stage.worker().descriptor_limit(60).env("REDIAL_CONCURRENCY", "100").spawn();
    worker.wait_ready().await;
    let ids: Vec<String> = (0..60).map(|n| format!("t{n}")).collect();
    stage
        .push_many(&ids, "/", &json!({"limit": {"name": "places", "concurrency": 100}, "retry": {"max_attempts": 1}}))
        .await;
    let waits = || async { (counter(&worker, "redial_local_shortages_total").await > 0).then_some(()) };
    eventually(SOON, waits).await;
    let in_use = stage.redis.cli(&["ZCARD", "redial:limit:{places}:slots"]).await.parse::<usize>().unwrap();
    assert!(in_use < ids.len(), "a call that waits in Redis has no slot: {in_use}");
    let results = stage.queue.wait_results(&ids, SOON * 2).await;
    assert_eq!(answered(&results), ids.len());
    assert!(results.iter().all(|result| number(&result["attempts"][0]["took_ms"]) >= 3_900));
}
