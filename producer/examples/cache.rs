//! Pay for an answer once: the second of two identical calls is answered from the cache.
//!
//!     cargo run --example cache -- https://example.com/
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::Duration;

use redial::{Call, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: cache URL")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    for _ in 0..2 {
        let call = Call::post(&url).json(&serde_json::json!({"text": "hi"})).cache_ttl(Duration::from_secs(3600));
        let completed = client.enqueue_and_wait(call, Duration::from_secs(60)).await?;
        let result = completed.ok_or("no answer within a minute: is a worker running?")?.result()?;
        println!("{:?} from {:?}", result.http_status, result.source);
    }
    Ok(())
}
