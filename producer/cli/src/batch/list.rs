//! `redial batch list`

use std::process::ExitCode;

use redial::Queue;
use redial_core::queue::batch_progress::BatchProgress;
use redial_core::{QueueName, UnixMs};
use serde_json::{Value, json};

use crate::output::{self, Output, Tint};

const HEADER: &str = "BATCH                             QUEUE             STATE         DONE       LINES    FAILED   RETRIES  UPDATED               OUTPUT";

/// Lists the batches of all queues.
pub async fn list(queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
    let mut names = queue.db().known_queues().await?;
    names.insert(queue.name().clone());
    let (now, mut shown) = (queue.db().now().await?, 0);
    for name in names {
        for progress in queue.db().queue(name.clone()).batches().await? {
            if shown == 0 && output == Output::Text {
                output::line(HEADER)?;
            }
            shown += 1;
            output.print(|| row(&name, &progress, now), || to_json(&name, &progress, now))?;
        }
    }
    if shown == 0 {
        output.note(|| "no batch has run within a day".into());
    }
    Ok(ExitCode::SUCCESS)
}

fn row(queue: &QueueName, progress: &BatchProgress, now: UnixMs) -> String {
    let BatchProgress { batch, name, state, lines, failed, invalid, retries, updated_at_ms, .. } = progress;
    let is_silent = progress.is_silent(now);
    let state = format!("{:<8}", if is_silent { "silent" } else { state.as_str() });
    let state = if is_silent { output::paint(&state, Tint::Bad) } else { state };
    let failed = format!("{:>9}", failed + invalid);
    let failed = if failed.trim() == "0" { failed } else { output::paint(&failed, Tint::Bad) };
    format!(
        "{:<33} {:<17} {state} {:>9} {lines:>11} {failed} {retries:>9}  {:<21} {}",
        output::escaped(batch),
        queue.as_str(),
        progress.finished(),
        output::utc(updated_at_ms.0),
        output::escaped(name),
    )
}

fn to_json(queue: &QueueName, progress: &BatchProgress, now: UnixMs) -> Value {
    // It cannot fail: plain data.
    let mut json = serde_json::to_value(progress).unwrap_or_default();
    json["queue"] = json!(queue.as_str());
    json["silent"] = json!(progress.is_silent(now));
    json
}
