//! The whole path: tasks waiting on the list, one worker, an upstream that responds at once, results in Redis.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redial_tests::{RedisServer, TestQueue, Upstream, Worker};
use redis::aio::MultiplexedConnection;

use crate::bare;
use crate::rounds::{CONCURRENCY, ROUNDS, median};
use crate::upstream::answer;

/// How often the metrics are read where they are: more often than Prometheus does by default.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// The figures of the whole path and of the baseline.
pub struct PathFigures {
    /// Calls per second of the bare loop.
    pub bare: f64,
    /// Tasks per second of the worker.
    pub redial: f64,
    /// Redis commands per task, including the producer's push.
    pub commands: f64,
}

/// Alternates between the bare loop and the worker.
pub async fn measure(tasks: usize) -> anyhow::Result<PathFigures> {
    let upstream = Upstream::quiet(|_| answer()).await;
    let url = upstream.url("/v1/extract");
    let (mut bare, mut redial, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_loop(&url, tasks, CONCURRENCY).await?);
        let plain = |n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}}}"#, bare::BODY);
        let (rate, per_task) = worker(&[], (0..tasks).map(plain)).await?;
        redial.push(rate);
        commands.push(per_task);
    }
    Ok(PathFigures { bare: median(bare), redial: median(redial), commands: median(commands) })
}

/// Calls per second of the bare client, with so many at a time.
pub async fn bare_loop(url: &str, calls: usize, at_once: usize) -> anyhow::Result<f64> {
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args([bare::ARGUMENT, url, &calls.to_string(), &at_once.to_string(), bare::BODY])
        .stderr(Stdio::inherit())
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "the bare loop failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Tasks per second from the first to the last result, and commands per task. The queue is filled before the worker starts.
/// Another worker answers the tasks of `before` first; they are not measured.
pub async fn worker(before: &[String], tasks: impl ExactSizeIterator<Item = String>) -> anyhow::Result<(f64, f64)> {
    measured(before, tasks, &Observation::default()).await
}

/// How a worker is observed while it works.
#[derive(Default)]
pub struct Observation<'a> {
    /// Environment variables of the worker.
    pub settings: &'a [(&'a str, &'a str)],
    /// Whether its metrics are read meanwhile.
    pub is_scraped: bool,
}

/// The same for a worker that is observed.
pub async fn observed_worker(
    observation: &Observation<'_>,
    tasks: impl ExactSizeIterator<Item = String>,
) -> anyhow::Result<(f64, f64)> {
    measured(&[], tasks, observation).await
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
async fn measured(
    before: &[String],
    tasks: impl ExactSizeIterator<Item = String>,
    observation: &Observation<'_>,
) -> anyhow::Result<(f64, f64)> {
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(redis.url(), "default");
    let mut connection = redis.connection().await;
    if !before.is_empty() {
        queue.push_all(before).await;
        let warm = Worker::spawn(redis.url());
        until_completed(&mut connection, before.len() as u64).await?;
        drop(warm);
    }
    let (start, count) = (before.len() as u64, tasks.len() as u64);
    let commands_before = redis.info_number("total_commands_processed").await;
    queue.push_all(tasks).await;
    let worker = Worker::builder(redis.url()).env("REDIAL_CONCURRENCY", CONCURRENCY.to_string());
    let worker = observation.settings.iter().fold(worker, |worker, (name, value)| worker.env(name, *value)).spawn();
    let mut polls = 0_u64;
    let mut first: Option<(Instant, u64)> = None;
    let (elapsed, counted) = {
        let mut scraping = std::pin::pin!(scrape(&worker));
        loop {
            tokio::select! {
                () = &mut scraping, if observation.is_scraped => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            polls += 1;
            match (completed(&mut connection).await?, first) {
                (Some(done), None) if done > start => first = Some((Instant::now(), done)),
                (Some(done), Some((at, then))) if done == start + count => break (at.elapsed(), done - then),
                _ => {}
            }
        }
    };
    let after = redis.info_number("total_commands_processed").await;
    drop(worker);
    anyhow::ensure!(counted > 0, "the round ended before it could be measured; use more tasks");
    let commands = (after - commands_before).checked_sub(polls).context("commands were counted")?;
    Ok((counted as f64 / elapsed.as_secs_f64(), commands as f64 / count as f64))
}

/// Reads the metrics of a worker for ever.
async fn scrape(worker: &Worker) {
    worker.wait_ready().await;
    loop {
        worker.metrics().await;
        tokio::time::sleep(SCRAPE_INTERVAL).await;
    }
}

/// Waits until this many tasks are complete.
pub async fn until_completed(connection: &mut MultiplexedConnection, count: u64) -> redis::RedisResult<()> {
    while completed(connection).await?.unwrap_or(0) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// How many tasks are complete.
pub async fn completed(connection: &mut MultiplexedConnection) -> redis::RedisResult<Option<u64>> {
    redis::cmd("HGET").arg("redial:{default}:stats").arg("complete").query_async(connection).await
}
