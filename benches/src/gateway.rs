//! What the gateway adds to a call: the same calls at a steady rate, directly and through the gateway, in turns.

use std::time::{Duration, Instant};

use redial_tests::{GatewayProcess, RedisServer, Reply, TestQueue, Upstream, Worker};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::bare;
use crate::rounds::ROUNDS;

/// Calls a second.
pub const RATE: u32 = 500;
/// How many calls are made before those that are measured.
const WARM_UP: usize = 500;
/// How many callers wait at the same time.
const CALLERS: usize = 10_000;
/// How long the upstream takes: little, so that what is added shows.
const UPSTREAM: Duration = Duration::from_millis(20);

/// Percentiles in milliseconds.
pub struct CallLatency {
    pub p50: f64,
    pub p99: f64,
}

/// The latency of direct calls, and of calls through the gateway.
pub async fn measure(calls: usize) -> anyhow::Result<[CallLatency; 2]> {
    let reply =
        |_: &redial_tests::Request| Reply::ok().header("content-type", "application/json").body(r#"{"ok":true}"#);
    let upstream = Upstream::quiet(move |request| reply(request).after(UPSTREAM)).await;
    let redis = RedisServer::start().await;
    let settings = format!("[[upstream]]\nname = \"api\"\nurl = \"{}\"\n", upstream.url("/"));
    let gateway = GatewayProcess::start(&redis, &settings).await;
    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let (direct, through) = (upstream.url("/v1/extract"), gateway.url("/u/api/v1/extract"));
    for url in [&direct, &through] {
        at_a_steady_rate(&client, url, WARM_UP).await?;
    }
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (url, latencies) in [&direct, &through].into_iter().zip(&mut latencies) {
            latencies.extend(at_a_steady_rate(&client, url, calls).await?);
        }
    }
    Ok(latencies.map(percentiles))
}

/// Many callers that wait at the same time.
pub struct WaitingCallers {
    /// How many there are.
    pub callers: usize,
    /// How much memory the gateway has gained with them, in bytes.
    pub memory: u64,
    /// How many connections to Redis it has.
    pub connections: usize,
    /// From the start of a worker until the last of them has its answer.
    pub answered_after: Duration,
}

/// Has many callers wait while there is no worker, and then starts one.
pub async fn wait_together() -> anyhow::Result<WaitingCallers> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let upstream = Upstream::quiet(|_| Reply::ok().header("content-type", "application/json").body("{}")).await;
    let redis = RedisServer::start().await;
    let settings = format!("[[upstream]]\nname = \"api\"\nurl = \"{}\"\n", upstream.url("/"));
    let gateway = GatewayProcess::start(&redis, &settings).await;
    let (before, mut callers) = (gateway.rss_bytes(), Vec::with_capacity(CALLERS));
    for _ in 0..CALLERS {
        callers.push(gateway.open("POST", "/u/api/v1/extract", &[], bare::BODY.as_bytes()).await?);
    }
    let queue = TestQueue::new(&redis, "default");
    let all_wait = async || (queue.waiting().await == CALLERS as u64).then_some(());
    redial_tests::eventually(Duration::from_secs(120), all_wait).await;
    let memory = gateway.rss_bytes().saturating_sub(before);
    // All but that of the queue above, and that of redis-cli itself.
    let connections = redis.cli(&["CLIENT", "LIST"]).await.lines().count().saturating_sub(2);
    let started = Instant::now();
    let _worker = Worker::spawn(&redis);
    for mut caller in callers {
        let mut response = String::new();
        caller.read_to_string(&mut response).await?;
        anyhow::ensure!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    Ok(WaitingCallers { callers: CALLERS, memory, connections, answered_after: started.elapsed() })
}

/// Starts a call at each of its moments, however long the others take, so that a server that falls behind shows. In milliseconds.
async fn at_a_steady_rate(client: &reqwest::Client, url: &str, calls: usize) -> anyhow::Result<Vec<f64>> {
    let mut moments = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut running = JoinSet::new();
    for _ in 0..calls {
        let moment = moments.tick().await;
        let request = client.post(url).header("content-type", "application/json").body(bare::BODY);
        running.spawn(async move {
            let response = request.send().await?.error_for_status()?;
            response.bytes().await?;
            Ok::<_, reqwest::Error>(Instant::now().duration_since(moment.into_std()).as_secs_f64() * 1000.0)
        });
    }
    let mut latencies = Vec::with_capacity(calls);
    while let Some(ended) = running.join_next().await {
        latencies.push(ended??);
    }
    Ok(latencies)
}

fn percentiles(mut latencies: Vec<f64>) -> CallLatency {
    latencies.sort_by(f64::total_cmp);
    CallLatency { p50: latencies[latencies.len() / 2], p99: latencies[latencies.len() * 99 / 100] }
}
