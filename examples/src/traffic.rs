//! The same prompts at a steady rate, until it is stopped, for a fleet that one wants to look at. `docker-compose.yml` starts it in its profile
//! `demo`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use redial_tests::{TestQueue, Upstream};
use serde_json::{Value, json};

use crate::{chat, tasks};

/// Pushes so many prompts a second to the Redis of `REDIS_URL`. `host` is the name of this machine for the workers.
pub(crate) async fn push(queue: &str, host: &str, per_second: &str) -> anyhow::Result<()> {
    let rate: u32 = per_second.parse().with_context(|| format!("{per_second} is not a number of calls a second"))?;
    ensure!((1..=1_000).contains(&rate), "use 1 to 1000 calls a second");
    let redis_url = std::env::var("REDIS_URL").context("REDIS_URL is not set")?;
    let api = Upstream::quiet_on_all_addresses(chat::handler()).await;
    let url = format!("http://{host}:{}{}", api.address().port(), chat::PATH);
    println!("{rate} calls a second to {url}");
    let queue = TestQueue::new(redis_url, queue);
    let mut moments = tokio::time::interval(Duration::from_secs(1) / rate);
    let prompts = tasks::all(&url)?;
    for round in 1_u64.. {
        for prompt in &prompts {
            let mut task: Value = serde_json::from_str(&prompt.json)?;
            task["id"] = json!(format!("{}-{round}", prompt.id));
            moments.tick().await;
            queue.push(task.to_string()).await;
        }
    }
    Ok(())
}
