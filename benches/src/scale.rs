//! What stays as it is when there is much more of everything: calls in flight, a backlog, hosts, bytes of an answer, tasks pushed at once.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redial::Client;
use redial_tests::process::Process;
use redial_tests::{RedisServer, Reply, TestQueue, Upstream, Worker, eventually};

use crate::bare;
use crate::path::{self, Observation};
use crate::rounds::{ROUNDS, median};

/// How many descriptors a process needs besides those of its calls.
const OTHER_DESCRIPTORS: u64 = 500;
/// How long an upstream keeps calls, so that all of them are in flight at a time.
const KEPT: Duration = Duration::from_secs(400);
/// How long it may take until they are.
const PATIENCE: Duration = Duration::from_secs(380);
/// How large a large answer is, and how many there are in a round.
const LARGE: usize = 1_000_000;
const LARGE_ANSWERS: usize = 400;
/// How many of them are in flight.
const LARGE_AT_ONCE: usize = 16;

/// The memory of the worker and of a bare client with so many calls in flight, in bytes.
///
/// # Errors
/// This machine allows a process too few descriptors for that.
pub async fn in_flight(calls: usize) -> anyhow::Result<[u64; 2]> {
    let allowed = rlimit::increase_nofile_limit(u64::MAX)?;
    let needed = calls as u64 + OTHER_DESCRIPTORS;
    anyhow::ensure!(allowed >= needed, "a process needs {needed} descriptors and may have {allowed} (ulimit -Hn)");
    let upstream = Upstream::quiet_on_all_addresses(|_| Reply::ok().body("{}").after(KEPT)).await;
    let all_arrive = async || {
        let arrived = async || (upstream.in_flight() >= calls).then_some(());
        eventually(PATIENCE, arrived).await;
    };
    let url = format!("http://{}:{}/", bare::ADDRESS, upstream.address().port());
    let count = calls.to_string();
    let mut client = Command::new(std::env::current_exe()?);
    client.args([bare::ARGUMENT, &url, &count, &count, bare::BODY]).stdout(Stdio::null());
    let client = Process::spawn(client);
    all_arrive().await;
    let of_client = client.rss_bytes();
    client.kill9();
    eventually(PATIENCE, async || (upstream.in_flight() == 0).then_some(())).await;
    let redis = RedisServer::start().await;
    let port = upstream.address().port();
    let task = |n: usize| {
        let url = format!("http://{}:{port}/", bare::address(n));
        format!(r#"{{"id":"t{n}","url":"{url}","timeout_ms":600000,"body":{}}}"#, bare::BODY)
    };
    TestQueue::new(redis.url(), "default").push_all((0..calls).map(task)).await;
    let worker = Worker::builder(redis.url()).env("REDIAL_CONCURRENCY", count).spawn();
    all_arrive().await;
    Ok([worker.rss_bytes(), of_client])
}

/// Tasks per second with a backlog of so many tasks.
pub async fn with_backlog(tasks: usize) -> anyhow::Result<f64> {
    let upstream = Upstream::quiet(|_| Reply::ok().header("content-type", "application/json").body("{}")).await;
    let task = |n| format!(r#"{{"id":"t{n}","url":"{}","body":{}}}"#, upstream.url("/v1/extract"), bare::BODY);
    Ok(path::worker(&[], (0..tasks).map(task)).await?.0)
}

/// Tasks per second to one host, and to so many.
pub async fn hosts(tasks: usize, hosts: usize) -> anyhow::Result<[f64; 2]> {
    let upstream = Upstream::quiet_on_all_addresses(|_| Reply::ok().body("{}")).await;
    let port = upstream.address().port();
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (hosts, rates) in [(1, &mut one), (hosts, &mut many)] {
            let task = |n: usize| {
                let (high, low) = (n % hosts / 250, n % hosts % 250 + 1);
                format!(r#"{{"id":"t{n}","url":"http://127.2.{high}.{low}:{port}/","body":{}}}"#, bare::BODY)
            };
            rates.push(path::worker(&[], (0..tasks).map(task)).await?.0);
        }
    }
    Ok([median(one), median(many)])
}

/// Megabytes of answers per second: through the worker into Redis, and of a bare client.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn large_answers() -> anyhow::Result<[f64; 2]> {
    let body = "x".repeat(LARGE);
    let upstream = Upstream::quiet(move |_| Reply::ok().header("content-type", "text/plain").body(body.clone())).await;
    let url = upstream.url("/");
    let at_once = LARGE_AT_ONCE.to_string();
    let (mut redial, mut client) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        client.push(path::bare_loop(&url, LARGE_ANSWERS, LARGE_AT_ONCE).await?);
        let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","result_ttl_ms":600000,"body":{}}}"#, bare::BODY);
        let settings = [("REDIAL_CONCURRENCY", at_once.as_str())];
        let observation = Observation { settings: &settings, is_scraped: false };
        redial.push(path::observed_worker(&observation, (0..LARGE_ANSWERS).map(task)).await?.0);
    }
    let megabytes = |rates| median(rates) * LARGE as f64 / 1_000_000.0;
    Ok([megabytes(redial), megabytes(client)])
}

/// Tasks per second that one process pushes: through the library, which checks them, and by `LPUSH` of the same bytes.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub async fn enqueue(tasks: usize) -> anyhow::Result<[f64; 2]> {
    let task = |n| format!(r#"{{"id":"t{n}","url":"https://api.example.com/v1","body":{}}}"#, bare::BODY);
    let all: Vec<String> = (0..tasks).map(task).collect();
    let (mut library, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let redis = RedisServer::start().await;
        let client = Client::open(redis.url(), "default")?;
        let began = Instant::now();
        client.enqueue_all(all.iter().map(String::as_str)).await?;
        library.push(tasks as f64 / began.elapsed().as_secs_f64());
        let redis = RedisServer::start().await;
        let queue = TestQueue::new(redis.url(), "default");
        let began = Instant::now();
        queue.push_all(&all).await;
        raw.push(tasks as f64 / began.elapsed().as_secs_f64());
    }
    Ok([median(library), median(raw)])
}
