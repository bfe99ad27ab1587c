//! The baseline: the same HTTP client in a plain loop, without Redis, in a process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The first argument that makes this program run the baseline.
pub const ARGUMENT: &str = "bare-loop";
/// A host that stands for one of the [addresses](address) of this machine, in turn.
pub const ADDRESS: &str = "one-of-many";
/// The body of every call in our own benchmarks, the same as in the tasks.
pub const BODY: &str = r#"{"text":"hi"}"#;

/// One of two hundred addresses of this machine: each has ports for no more than about 28,000 connections.
pub fn address(n: usize) -> String {
    format!("127.0.1.{}", 1 + n % 200)
}

/// Makes the calls and prints the rate in calls per second.
pub async fn run(url: &str, calls: usize, concurrency: usize, body: &str) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(concurrency).build()?;
    let left = Arc::new(AtomicUsize::new(calls));
    let started = Instant::now();
    let mut loops = Vec::new();
    for n in 0..concurrency {
        let url = url.replace(ADDRESS, &address(n));
        let (client, left, body) = (client.clone(), left.clone(), body.to_owned());
        loops.push(tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let sent =
                    client.post(&url).header("content-type", "application/json").body(body.clone()).send().await?;
                sent.bytes().await?;
            }
            Ok::<(), reqwest::Error>(())
        }));
    }
    for calling in loops {
        calling.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    let rate = calls as f64 / started.elapsed().as_secs_f64();
    println!("{rate}");
    Ok(())
}
