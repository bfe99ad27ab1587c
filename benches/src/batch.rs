//! `redial batch` compared with raw pipelining of the same calls, and the latency of waiting for results.

use std::fs;
use std::time::{Duration, Instant};

use redial::Client;
use redial_core::{TaskId, UnixMs};
use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker};

use crate::rounds::{CONCURRENCY, ROUNDS, median};
use crate::{bare, path};

/// The figures of `redial batch`.
pub struct BatchFigures {
    /// Tasks per second with a pipelining producer, from the first push to the last result.
    pub raw: f64,
    /// Lines per second, from start to exit.
    pub lines: f64,
    /// Peak memory of the command in MiB, for a tenth of the file and for all of it.
    pub peak_mib: [f64; 2],
}

/// Alternates between the two; each round has a Redis and a worker of its own.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn measure(lines: usize) -> anyhow::Result<BatchFigures> {
    let upstream = Upstream::quiet(|_| Reply::ok().header("content-type", "application/json").body("{}")).await;
    let task = |n| format!(r#"{{"id":"t{n}","url":"{}","body":{}}}"#, upstream.url("/"), bare::BODY);
    let (mut raw, mut batch) = (Vec::new(), Vec::new());
    let (_, tenth) = run_batch(lines / 10, &task).await?;
    let mut all = 0.0;
    for _ in 0..ROUNDS {
        let (redis, _worker) = fleet().await;
        let mut connection = redis.connection().await;
        let start = Instant::now();
        TestQueue::new(redis.url(), "default").push_all((0..lines).map(task)).await;
        path::until_completed(&mut connection, lines as u64).await?;
        raw.push(lines as f64 / start.elapsed().as_secs_f64());
        let (took, peak) = run_batch(lines, &task).await?;
        batch.push(lines as f64 / took.as_secs_f64());
        all = f64::max(all, peak);
    }
    Ok(BatchFigures { raw: median(raw), lines: median(batch), peak_mib: [tenth, all] })
}

async fn fleet() -> (RedisServer, Worker) {
    let redis = RedisServer::start().await;
    let worker = Worker::builder(redis.url()).env("REDIAL_CONCURRENCY", CONCURRENCY.to_string()).spawn();
    worker.wait_ready().await;
    (redis, worker)
}

/// Runs `redial batch` on a file of this many lines; returns how long it takes and its peak memory in MiB.
async fn run_batch(lines: usize, task: &impl Fn(usize) -> String) -> anyhow::Result<(Duration, f64)> {
    let (redis, _worker) = fleet().await;
    let folder = tempfile::tempdir()?;
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    fs::write(&input, (0..lines).map(|n| task(n) + "\n").collect::<String>())?;
    let paths = [&input, &output].map(|path| path.to_string_lossy().into_owned());
    let start = Instant::now();
    let mut child = Cli::new(&redis).start(&["batch", &paths[0], "-o", &paths[1]]);
    let mut peak_kib = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(id) = child.id()
            && let Ok(status) = fs::read_to_string(format!("/proc/{id}/status"))
        {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak_kib = kib.unwrap_or(peak_kib);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let took = start.elapsed();
    anyhow::ensure!(status.success(), "redial batch failed: {status}");
    anyhow::ensure!(fs::read_to_string(&output)?.lines().count() == lines, "a result is missing");
    Ok((took, peak_kib / 1024.0))
}

/// Milliseconds from the moment a result exists until its waiter has it, p50 and p99. A thousand waiters wait for one task each,
/// and 25 of these tasks are answered every 60 ms.
pub async fn wait_latency() -> anyhow::Result<[u64; 2]> {
    const WAITERS: usize = 1_000;
    let upstream = Upstream::quiet(|_| Reply::ok().body("{}")).await;
    let redis = RedisServer::start().await;
    let client = Client::open(redis.url(), "default")?;
    let mut waiters = Vec::new();
    for n in 0..WAITERS {
        let (client, id) = (client.clone(), TaskId::new(&format!("t{n}"))?);
        waiters.push(tokio::spawn(async move {
            let answered = client.wait(&id, Duration::from_secs(120)).await?;
            let received = UnixMs::local_now();
            let result = answered.as_ref().and_then(|answered| answered.result().ok());
            Ok::<_, anyhow::Error>(result.map(|result| received.since(result.finished_at_ms)))
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let worker = Worker::spawn(redis.url());
    worker.wait_ready().await;
    let queue = TestQueue::new(redis.url(), "default");
    for from in (0..WAITERS).step_by(25) {
        let task = |n| format!(r#"{{"id":"t{n}","url":"{}"}}"#, upstream.url("/"));
        queue.push_all((from..from + 25).map(task)).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let mut latencies = Vec::new();
    for waiter in waiters {
        latencies.extend(waiter.await??);
    }
    anyhow::ensure!(latencies.len() == WAITERS, "{} of {WAITERS} waiters got a result", latencies.len());
    latencies.sort_unstable();
    Ok([latencies[WAITERS / 2], latencies[WAITERS * 99 / 100]])
}
