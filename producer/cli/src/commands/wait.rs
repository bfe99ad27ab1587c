//! `redial wait`

use std::process::ExitCode;
use std::time::Duration;

use redial::{Client, TaskId};
use tokio::time::Instant;

use crate::output;

/// Wait for the results of calls and print them as they arrive, without polling; exit code 3 if one does not arrive in time.
///
/// Results are JSON, one per line.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// How long to wait for all of them, in seconds. Default: forever.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

impl WaitArgs {
    pub async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let ids: Vec<TaskId> = self.ids.iter().map(|id| TaskId::new(id)).collect::<Result<_, _>>()?;
        let deadline = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        let mut results = client.wait_all(ids).await?;
        loop {
            let next = match deadline {
                None => results.next().await,
                Some(deadline) => match tokio::time::timeout_at(deadline, results.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            let Some(completed) = next else { return Ok(ExitCode::SUCCESS) };
            output::line(&completed.json)?;
        }
        for id in results.outstanding() {
            // Once more, so that a failing Redis is not mistaken for an unfinished task.
            match client.result(id).await? {
                Some(completed) => output::line(&completed.json)?,
                None => output::complain(&format!("{id}: no result in queue {} in time", client.queue().name())),
            }
        }
        Ok(ExitCode::from(super::NOT_FOUND))
    }
}
