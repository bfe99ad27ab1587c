//! Print an answer while it arrives.
//!
//!     cargo run --example stream -- https://example.com/
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::Duration;

use redial::{Call, Client, EntryId, OnBreak, StreamEvent};
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: stream URL")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    let id = client.enqueue(Call::get(url).stream().on_break(OnBreak::Restart)).await?;
    let mut entries = client.stream(&id, EntryId::START);
    while let Some(entry) = timeout(Duration::from_secs(60), entries.next()).await? {
        match entry.event {
            StreamEvent::Head(head) => println!("status {}", head.status),
            StreamEvent::Data(bytes) => println!("{}", String::from_utf8_lossy(&bytes)),
            StreamEvent::Restart { why } => println!("forget that: {why}"),
            StreamEvent::End => println!("complete"),
            StreamEvent::Error(failure) => println!("failed: {}", failure.error),
        }
    }
    Ok(())
}
