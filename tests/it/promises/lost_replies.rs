//! Replies of Redis that get lost: the commands were executed, but the worker cannot know it.

use std::time::Duration;

use redial_tests::{Proxy, Worker};
use serde_json::json;

use super::{SOON, Stage, answered, ids};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_redis_replies_lose_no_task_and_repeat_no_call() {
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let proxy = Proxy::before(stage.redis.port()).await;
    let worker = Worker::builder(proxy.url()).env("REDIAL_CONCURRENCY", "16").spawn();
    worker.wait_ready().await;
    let ids = ids("t", 2_000);
    stage.push_many(&ids, "/", &json!({})).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.lose_replies(Duration::from_millis(30)).await;
    }
    assert!(proxy.lost_bytes() > 0);
    let results = stage.queue.wait_results(&ids, 4 * SOON).await;
    assert_eq!(answered(&results), ids.len());
    assert_eq!(stage.upstream.count(), 2_000, "{}", worker.log());
    let stats = stage.redis.cli(&["HMGET", "redial:{default}:stats", "complete", "reaped", "stray"]).await;
    assert_eq!(stats, "2000", "{}", worker.log());
    assert!(!worker.log().contains("lease lost:"), "{}", worker.log());
}
