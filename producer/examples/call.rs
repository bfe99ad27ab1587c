//! Make a call and print its answer.
//!
//!     cargo run --example call -- https://example.com/
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::Duration;

use redial::{Call, Client, Status};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: call URL")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    let call = Call::post(url)
        .json(&serde_json::json!({"text": "hi"}))
        .header("Accept", "application/json")
        .timeout(Duration::from_secs(10))
        .ttl(Duration::from_secs(600));
    let completed = client.enqueue_and_wait(call, Duration::from_secs(60)).await?;
    let result = completed.ok_or("no answer within a minute: is a worker running?")?.result()?;
    match result.status {
        Status::Ok => println!("{:?} after {} attempts", result.http_status, result.attempts.len()),
        Status::Dead => println!("failed: {}", result.error.unwrap_or_default()),
    }
    Ok(())
}
