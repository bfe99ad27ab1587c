//! What the gateway adds to a call: the same calls at a steady rate, directly and through the gateway, in turns; and how many callers and streams it
//! has at a time.

use std::time::{Duration, Instant};

use redial_tests::{GatewayProcess, RedisServer, Reply, TestQueue, Upstream, Worker};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::bare;
use crate::rounds::ROUNDS;
use crate::upstream::answer;

/// Calls a second.
pub const RATE: u32 = 500;
/// How many calls are made before those that are measured.
const WARM_UP: usize = 500;
/// How many streams begin a second.
pub const STREAM_RATE: u32 = 100;
/// How many callers wait at the same time.
const CALLERS: usize = 10_000;
/// How many streams are open at the same time, and how many events each has, one a second.
const STREAMS: usize = 2_000;
const EVENTS: usize = 30;
/// How long the upstream takes: little, so that what is added shows.
const UPSTREAM: Duration = Duration::from_millis(20);

/// Percentiles in milliseconds.
pub struct CallLatency {
    pub p50: f64,
    pub p99: f64,
}

/// What a caller waits for.
#[derive(Clone, Copy)]
pub enum Awaited {
    /// The whole answer.
    Answer,
    /// The first byte of the body of a stream.
    FirstByte,
}

/// The latency of direct calls, and of calls through the gateway.
pub async fn measure(calls: usize, awaited: Awaited) -> anyhow::Result<[CallLatency; 2]> {
    let upstream = match awaited {
        Awaited::Answer => Upstream::quiet(|_| answer().after(UPSTREAM)).await,
        Awaited::FirstByte => Upstream::quiet(|_| events(3, UPSTREAM)).await,
    };
    let redis = RedisServer::start().await;
    let settings = format!("[[upstream]]\nname = \"api\"\nurl = \"{}\"\n", upstream.url("/"));
    let gateway = GatewayProcess::start(&redis, &settings).await;
    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let (direct, through) = (upstream.url("/v1/extract"), gateway.url("/u/api/v1/extract"));
    for url in [&direct, &through] {
        at_a_steady_rate(&client, url, WARM_UP, awaited).await?;
    }
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (url, latencies) in [&direct, &through].into_iter().zip(&mut latencies) {
            latencies.extend(at_a_steady_rate(&client, url, calls, awaited).await?);
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

/// Many streams that are open at the same time.
pub struct OpenStreams {
    /// How many there are.
    pub streams: usize,
    /// How much memory the gateway has gained with them, in bytes.
    pub memory: u64,
    /// How many connections to Redis the gateway and the worker have.
    pub connections: usize,
    /// The longest that any of them waited for an event, of which one is sent each second.
    pub longest_wait: Duration,
}

/// Opens many streams, each of which has an event a second, and reads them to their ends.
pub async fn open_streams() -> anyhow::Result<OpenStreams> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let upstream = Upstream::quiet(|_| events(EVENTS, Duration::from_secs(1))).await;
    let redis = RedisServer::start().await;
    let settings = format!("[[upstream]]\nname = \"api\"\nurl = \"{}\"\n", upstream.url("/"));
    let gateway = GatewayProcess::start(&redis, &settings).await;
    let worker = Worker::builder(&redis).env("REDIAL_CONCURRENCY", "3000").spawn();
    worker.wait_ready().await;
    let before = gateway.rss_bytes();
    let mut reading = JoinSet::new();
    for _ in 0..STREAMS {
        let accept = [("accept", "text/event-stream")];
        let mut stream = gateway.open("POST", "/u/api/v1/chat", &accept, bare::BODY.as_bytes()).await?;
        reading.spawn(async move {
            let (mut bytes, mut longest, mut last) = (Vec::new(), Duration::ZERO, None::<Instant>);
            while stream.read_buf(&mut bytes).await? > 0 {
                longest = longest.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
                last = Some(Instant::now());
            }
            let text = String::from_utf8(bytes)?;
            anyhow::ensure!(text.matches("data: ").count() == EVENTS, "{text}");
            anyhow::Ok(longest)
        });
    }
    // All of them are open, and none has ended.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let memory = gateway.rss_bytes().saturating_sub(before);
    let connections = redis.cli(&["CLIENT", "LIST"]).await.lines().count().saturating_sub(1);
    let mut longest_wait = Duration::ZERO;
    while let Some(read) = reading.join_next().await {
        longest_wait = longest_wait.max(read??);
    }
    Ok(OpenStreams { streams: STREAMS, memory, connections, longest_wait })
}

/// An answer that consists of events, each of which is held back for this long.
fn events(count: usize, pause: Duration) -> Reply {
    let events = (0..count).map(move |n| (pause, format!("data: {{\"n\":{n}}}\n\n")));
    Reply::streamed(events).header("content-type", "text/event-stream")
}

/// Starts a call at each of its moments, however long the others take, so that a server that falls behind shows. In milliseconds.
async fn at_a_steady_rate(
    client: &reqwest::Client,
    url: &str,
    calls: usize,
    awaited: Awaited,
) -> anyhow::Result<Vec<f64>> {
    let rate = if matches!(awaited, Awaited::Answer) { RATE } else { STREAM_RATE };
    let mut moments = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut running = JoinSet::new();
    for _ in 0..calls {
        let moment = moments.tick().await;
        let mut request = client.post(url).header("content-type", "application/json").body(bare::BODY);
        if matches!(awaited, Awaited::FirstByte) {
            request = request.header("accept", "text/event-stream");
        }
        running.spawn(async move {
            let mut response = request.send().await?.error_for_status()?;
            response.chunk().await?;
            let first_byte = moment.into_std().elapsed();
            while response.chunk().await?.is_some() {}
            let taken = if matches!(awaited, Awaited::Answer) { moment.into_std().elapsed() } else { first_byte };
            Ok::<_, reqwest::Error>(taken.as_secs_f64() * 1000.0)
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
