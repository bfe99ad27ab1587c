//! Make a second call with values from the answer to the first. The workers do it: this program need not stay.
//!
//!     cargo run --example chain -- https://example.com/reports https://example.com/notify
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::time::Duration;

use redial::{Call, Client, TaskId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (first, second) = (std::env::args().nth(1), std::env::args().nth(2));
    let (Some(first), Some(second)) = (first, second) else { return Err("usage: chain URL URL".into()) };
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = Client::open(&redis, "default")?;

    let notify = Call::post(second).json(&serde_json::json!({"report": "{{$.body}}", "status": "{{$.http_status}}"}));
    let id = client.enqueue(Call::get(first).then(notify)).await?;

    let second_id = TaskId::new(&format!("{id}.then"))?;
    let completed = client.wait(&second_id, Duration::from_secs(60)).await?;
    let result = completed.ok_or("no answer within a minute: is a worker running?")?.result()?;
    println!("{:?} {}", result.http_status, result.body.map(|body| body.to_string()).unwrap_or_default());
    Ok(())
}
