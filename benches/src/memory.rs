//! The memory that tasks take in Redis while they wait, and once they are complete.

use redial_tests::{RedisServer, TestQueue, Upstream, Worker};

use crate::upstream::answer;
use crate::{bare, path};

/// Bytes per waiting task of 300 bytes, as Redis accounts for them.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn of_waiting() -> anyhow::Result<f64> {
    const TASKS: usize = 100_000;
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(redis.url(), "default");
    let task = |n: usize| {
        let head = format!(r#"{{"id":"task-{n:08}","url":"https://api.example.com/v1/extract","body":{{"text":""#);
        let filler = "x".repeat(300 - head.len() - 3);
        format!(r#"{head}{filler}"}}}}"#)
    };
    anyhow::ensure!(task(0).len() == 300, "a task has {} bytes", task(0).len());
    queue.push_all((0..1).map(task)).await;
    let before = redis.info_number("used_memory_dataset").await;
    queue.push_all((1..=TASKS).map(task)).await;
    let after = redis.info_number("used_memory_dataset").await;
    Ok((after - before) as f64 / TASKS as f64)
}

/// Bytes per task that is complete: its result, and if tasks are cached, the memo of each as well.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn of_complete(are_cached: bool) -> anyhow::Result<f64> {
    const TASKS: usize = 10_000;
    let upstream = Upstream::quiet(|_| answer()).await;
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(redis.url(), "default");
    let cache = if are_cached { r#""cache_ttl_ms":3600000,"# } else { "" };
    let task = |n: usize| {
        let url = upstream.url(&format!("/v1/extract?n={n}"));
        format!(r#"{{"id":"t{n}",{cache}"url":"{url}","body":{}}}"#, bare::BODY)
    };
    let _worker = Worker::spawn(redis.url());
    let mut connection = redis.connection().await;
    let mut used = Vec::new();
    for tasks in [0..TASKS, TASKS..2 * TASKS] {
        let complete = tasks.end as u64;
        queue.push_all(tasks.map(task)).await;
        path::until_completed(&mut connection, complete).await?;
        used.push(redis.info_number("used_memory_dataset").await);
    }
    Ok((used[1] - used[0]) as f64 / TASKS as f64)
}
