//! What a limit costs a task that never has to wait for it, and how much of a rate a backlog uses.

use std::time::{Duration, Instant};

use redial_tests::{RedisServer, Reply, TestQueue, Upstream, Worker};

use crate::rounds::{CONCURRENCY, ROUNDS, median};
use crate::{bare, path};

/// How long each rate is measured, in seconds.
const MEASURED_S: usize = 8;

/// Tasks per second and commands per task, without a limit and under one that is never reached.
pub async fn cost(tasks: usize) -> anyhow::Result<[(f64, f64); 2]> {
    let upstream = Upstream::quiet(|_| Reply::ok().body("{}")).await;
    let url = upstream.url("/");
    let mut measured = [const { (Vec::new(), Vec::new()) }; 2];
    for _ in 0..ROUNDS {
        for (extra, (rates, commands)) in
            ["", r#","limit":{"name":"wide","rate":1e9,"burst":1e9}"#].iter().zip(&mut measured)
        {
            let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}{extra}}}"#, bare::BODY);
            let (rate, per_task) = path::worker(&[], (0..tasks).map(task)).await?;
            rates.push(rate);
            commands.push(per_task);
        }
    }
    Ok(measured.map(|(rates, commands)| (median(rates), median(commands))))
}

/// For each rate per second, the share of it that a backlog used, and commands per task. The burst is a hundredth of a second's
/// worth.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn utilisation() -> anyhow::Result<Vec<(usize, f64, f64)>> {
    let upstream = Upstream::quiet(|_| Reply::ok().body("{}")).await;
    let url = upstream.url("/");
    let mut used = Vec::new();
    for rate in [10, 100, 1_000, 10_000] {
        let burst = (rate / 100).max(1);
        let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","limit":{{"name":"r","rate":{rate},"burst":{burst}}}}}"#);
        let (done, commands) = path::worker(&[], (0..rate * MEASURED_S).map(task)).await?;
        used.push((rate, done / rate as f64, commands));
    }
    Ok(used)
}

/// Tasks per second without a limit: alone, and while 10,000 tasks of the same queue wait for a limit of one per second.
pub async fn unlimited_beside_waiting(tasks: usize) -> anyhow::Result<[f64; 2]> {
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (waiting, rates) in [0, 10_000].into_iter().zip(&mut rates) {
            rates.push(unlimited_rate(waiting, tasks).await?);
        }
    }
    Ok(rates.map(median))
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
async fn unlimited_rate(waiting: usize, tasks: usize) -> anyhow::Result<f64> {
    let upstream = Upstream::quiet(|_| Reply::ok().body("{}")).await;
    let url = upstream.url("/");
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(redis.url(), "default");
    let mut connection = redis.connection().await;
    let worker = Worker::builder(redis.url()).env("REDIAL_CONCURRENCY", CONCURRENCY.to_string()).spawn();
    let slow = |n| format!(r#"{{"id":"s{n}","url":"{url}","limit":{{"name":"slow","rate":1}}}}"#);
    queue.push_all((0..waiting).map(slow)).await;
    let parked = |connection: &redis::aio::MultiplexedConnection| {
        let mut connection = connection.clone();
        async move {
            redis::cmd("ZCARD").arg("redial:{default}:wait:limit:slow").query_async::<usize>(&mut connection).await
        }
    };
    while parked(&connection).await? + 100 < waiting {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = path::completed(&mut connection).await?.unwrap_or(0);
    let start = Instant::now();
    queue.push_all((0..tasks).map(|n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}}}"#, bare::BODY))).await;
    path::until_completed(&mut connection, before + tasks as u64).await?;
    drop(worker);
    Ok(tasks as f64 / start.elapsed().as_secs_f64())
}
