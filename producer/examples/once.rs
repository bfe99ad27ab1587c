//! Make a call that must not be made twice. If it is unknown whether the upstream acted, a person decides what to do.
//!
//!     cargo run --example once -- https://example.com/payments
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::Duration;

use redial::{Call, Client, Reason, Status};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: once URL")?;
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    let call = Call::post(url).json(&serde_json::json!({"amount": 5})).once();
    let completed = client.enqueue_and_wait(call, Duration::from_secs(60)).await?;
    let completed = completed.ok_or("no answer within a minute: is a worker running?")?;
    let result = completed.result()?;
    match (result.status, result.reason) {
        (Status::Ok, _) => println!("done"),
        (Status::Dead, Some(Reason::OutcomeUnknown)) => {
            println!("unknown whether it was done: check, then `redial dead replay {0}` or `drop {0}`", completed.id);
        }
        (Status::Dead, _) => println!("not done: {}", result.error.unwrap_or_default()),
    }
    Ok(())
}
