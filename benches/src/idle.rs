//! The latency of an idle worker: from a raw LPUSH to the first byte of the call at the upstream.

use std::time::{Duration, Instant};

use redial_tests::{RedisServer, Reply, Upstream, Worker};

/// Percentiles in milliseconds.
pub struct IdleLatency {
    pub p50: f64,
    pub p99: f64,
}

/// Pushes single tasks, with pauses, to one idle worker.
pub async fn measure(tasks: usize) -> IdleLatency {
    let upstream = Upstream::start(|_| Reply::ok().body("{}")).await;
    let redis = RedisServer::start().await;
    let worker = Worker::spawn(redis.url());
    worker.wait_ready().await;
    let mut connection = redis.connection().await;
    let mut pushed = Vec::with_capacity(tasks);
    for n in 0..tasks {
        let task = format!(r#"{{"url":"{}"}}"#, upstream.url(&format!("/{n}")));
        pushed.push(Instant::now());
        let _: u64 = redis::cmd("LPUSH")
            .arg("redial:{default}")
            .arg(task)
            .query_async(&mut connection)
            .await
            .expect("Redis replies");
        // Irregular pauses, so that nothing synchronises.
        tokio::time::sleep(Duration::from_micros(3_000 + (n as u64 * 7919) % 4_000)).await;
    }
    redial_tests::eventually(Duration::from_secs(10), async || (upstream.count() == tasks as u64).then_some(())).await;
    let mut latencies: Vec<f64> = Vec::with_capacity(tasks);
    for call in upstream.calls() {
        let n: usize = call.path.trim_start_matches('/').parse().expect("every path is a number");
        latencies.push(call.at.duration_since(pushed[n]).as_secs_f64() * 1000.0);
    }
    latencies.sort_by(f64::total_cmp);
    IdleLatency { p50: latencies[tasks / 2], p99: latencies[tasks * 99 / 100] }
}
