//! The memory that a waiting task takes in Redis.

use redial_tests::{RedisServer, TestQueue};

/// Bytes per waiting task of 300 bytes, as Redis accounts for them.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn measure() -> anyhow::Result<f64> {
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
