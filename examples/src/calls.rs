//! Calls from Rust: one and its answer, then many and their answers as they come, then one that is taken back.
//!
//! ```sh
//! cargo run --bin calls -- https://example.com/
//! ```
#![allow(clippy::print_stdout, reason = "an example is there to be read")]

use std::time::Duration;

use anyhow::Context as _;
use redial::{Call, Producer};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("say where to call, as in https://example.com/")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let producer = Producer::open(&redis, "default")?;

    let call = Call::post(&url)
        .json(&serde_json::json!({"text": "hi"}))
        .header("Accept", "application/json")
        .cache_ttl(Duration::from_secs(3600));
    let answer = producer.enqueue_and_wait(call, Duration::from_secs(60)).await?;
    let answer = answer.context("no answer in 60 s: does a worker run?")?;
    println!("{} {:?}", answer.id, answer.result()?.http_status);

    let calls = (0..100).map(|n| Call::get(format!("{url}?n={n}")).meta(&n));
    let mut answers = producer.enqueue_all_and_wait(calls).await?;
    while let Some(answer) = answers.next().await {
        println!("{}", answer.json);
    }

    let later = producer.enqueue(Call::get(&url).delay(Duration::from_secs(3600))).await?;
    println!("{:?}", producer.cancel(&later, 10_000).await?);
    Ok(())
}
