//! Make a call at fixed times: once per time, however many workers are running.
//!
//!     cargo run --example schedule -- https://example.com/health
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::Duration;

use redial::{Call, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: schedule URL")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    // Every two seconds, so that there is something to see; "0 3 * * *" is every night at three.
    client.schedule("health", "*/2 * * * * *", Some("Europe/Berlin"), Call::get(url)).await?;
    for schedule in client.schedules().await? {
        println!("{}: {}, next at {:?}", schedule.name, schedule.when, schedule.next);
    }

    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("removed: {}", client.unschedule("health").await?);
    Ok(())
}
