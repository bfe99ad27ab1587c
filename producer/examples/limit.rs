//! Stay within a rate limit, however many programs and workers make calls: 5 per second here.
//!
//!     cargo run --example limit -- https://example.com/
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::{Duration, Instant};

use redial::{Call, Client, Limit};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: limit URL")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    let limit = Limit::named("example").rate(5.0, Duration::from_secs(1)).burst(1.0);
    let calls = (0..10).map(|n| Call::get(&url).limit(limit.clone()).meta(&n));
    let start = Instant::now();
    let mut results = client.enqueue_all_and_wait(calls).await?;
    while let Some(completed) = results.next().await {
        let result = completed.result()?;
        println!("{:.1} s  {:?}", start.elapsed().as_secs_f64(), result.http_status);
    }
    Ok(())
}
