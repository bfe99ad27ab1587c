//! Whether a worker's memory grows with what it has done: after a million tasks and ten thousand reconnects to Redis.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use redial_tests::{RedisServer, TestQueue, Upstream, Worker};
use redis::aio::MultiplexedConnection;

use crate::bare;
use crate::path::{completed, until_completed};
use crate::upstream::answer;

/// The size at which memory is compared: every pool and every cache of the worker is warm by then.
const WARM: u64 = 20_000;
const TASKS: u64 = 1_000_000;
const RECONNECTS: u64 = 10_000;
/// How many tasks are pushed at a time, so that Redis never holds them all.
const BATCH: u64 = 20_000;
/// Of so many tasks, one each has a limit and a cache key of its own, and goes to one of many hosts.
const SPECIAL: u64 = 20;
/// Long enough for idle buffers to be freed.
const REST: Duration = Duration::from_secs(15);
/// Between a task and the next cut of all connections.
const CUT_EVERY: Duration = Duration::from_millis(50);
/// For a task after a cut.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many connections of each round are not the worker's, at most.
const OWN: u64 = 4;
/// How many more queues the worker serves, so that a cut breaks many connections.
const QUEUES: u64 = 60;
/// When reconnecting counts as stuck.
const CUT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A worker's resident memory in bytes: after the first tasks, after all of them, and after the reconnects.
pub struct Growth {
    /// After [`WARM`] tasks.
    pub warm: u64,
    /// After [`TASKS`] tasks.
    pub tasks: u64,
    /// After [`RECONNECTS`] reconnects more.
    pub reconnects: u64,
}

/// Lets one worker do all that.
pub async fn measure() -> anyhow::Result<Growth> {
    let redis = RedisServer::start().await;
    let upstream = Upstream::quiet_on_all_addresses(|_| answer()).await;
    let queues = (0..QUEUES).fold("default=1".to_owned(), |queues, n| queues + &format!(",other{n}=1"));
    let worker = Worker::builder(redis.url()).env("REDIAL_QUEUES", queues).spawn();
    let queue = TestQueue::new(redis.url(), "default");
    let mut connection = redis.connection().await;
    let port = upstream.address().port();
    let mut pushed = 0;
    let warm = {
        push_until(WARM, &mut pushed, port, &queue, &mut connection).await?;
        rest(&worker).await
    };
    eprintln!("{} MiB after {WARM} tasks", warm >> 20);
    push_until(TASKS, &mut pushed, port, &queue, &mut connection).await?;
    let tasks = rest(&worker).await;
    eprintln!("{} MiB after {TASKS} tasks", tasks >> 20);
    reconnect(&redis, port).await?;
    // It still works, and what the reconnects have left is as warm as it was.
    let mut connection = redis.connection().await;
    let done = completed(&mut connection).await?.context("tasks were completed")?;
    TestQueue::new(redis.url(), "default").push_all((0..WARM).map(|n| task(n, port))).await;
    until_completed(&mut connection, done + WARM).await?;
    Ok(Growth { warm, tasks, reconnects: rest(&worker).await })
}

async fn push_until(
    count: u64,
    pushed: &mut u64,
    port: u16,
    queue: &TestQueue,
    connection: &mut MultiplexedConnection,
) -> anyhow::Result<()> {
    while *pushed < count {
        let end = (*pushed + BATCH).min(count);
        queue.push_all((*pushed..end).map(|n| task(n, port))).await;
        *pushed = end;
        until_completed(connection, end).await?;
    }
    Ok(())
}

fn task(n: u64, port: u16) -> String {
    let (host, more) = match n % SPECIAL {
        1 => (format!("127.1.{}.{}", n / SPECIAL % 4, n / SPECIAL % 250 + 1), String::new()),
        2 => ("127.0.0.1".to_owned(), format!(r#","limit":{{"name":"tenant {n}","rate":1000}}"#)),
        3 => ("127.0.0.1".to_owned(), format!(r#","cache_ttl_ms":1000,"cache_key":"{n}""#)),
        _ => ("127.0.0.1".to_owned(), String::new()),
    };
    let body = bare::BODY;
    format!(r#"{{"id":"t{n}","url":"http://{host}:{port}/v1/extract","body":{body},"result_ttl_ms":5000{more}}}"#)
}

async fn rest(worker: &Worker) -> u64 {
    tokio::time::sleep(REST).await;
    worker.rss_bytes()
}

/// Cuts all connections again and again, until Redis has accepted that many more of the worker. It is given the time to finish a task in
/// between: while nothing succeeds, a worker waits longer and longer before it connects again.
async fn reconnect(redis: &RedisServer, port: u16) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut reconnects, mut cuts) = (0, 0);
    while reconnects < RECONNECTS {
        anyhow::ensure!(start.elapsed() < CUT_TIMEOUT, "{reconnects} reconnects in {CUT_TIMEOUT:?}");
        let before = redis.info_number("total_connections_received").await;
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        cuts += 1;
        let (id, queue) = (format!("cut{cuts}"), TestQueue::new(redis.url(), "default"));
        queue.push(format!(r#"{{"id":"{id}","url":"http://127.0.0.1:{port}/v1/extract","result_ttl_ms":5000}}"#)).await;
        queue.wait_result(&id, SETTLE_TIMEOUT).await;
        tokio::time::sleep(CUT_EVERY).await;
        let accepted = redis.info_number("total_connections_received").await - before;
        // One each for the cut, the push, waiting for the result and the question.
        reconnects += accepted.saturating_sub(OWN);
    }
    Ok(())
}
