//! `redial wait`

use std::process::ExitCode;
use std::time::Duration;

use redial::{Client, Completed, Status, TaskId};
use tokio::time::Instant;

use crate::output;

/// Wait for the results of calls and print them as they arrive, without polling.
///
/// Results are JSON, one per line. Exit code 3 if one does not arrive in time, else 5 if a call is dead.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// How long to wait for all of them, in seconds. Default: forever.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Exit code 0 although a call is dead.
    #[arg(long)]
    ok_dead: bool,
}

impl WaitArgs {
    pub async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let ids: Vec<TaskId> = self.ids.iter().map(|id| TaskId::new(id)).collect::<Result<_, _>>()?;
        wait_all(client, ids, self.timeout, DeadCalls::new(self.ok_dead)).await
    }
}

/// What the exit code says of dead calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadCalls {
    /// Their own exit code.
    Fail,
    /// Nothing: a result is a result.
    Pass,
}

impl DeadCalls {
    /// As the option `--ok-dead` says.
    pub fn new(ok_dead: bool) -> Self {
        if ok_dead { Self::Pass } else { Self::Fail }
    }

    /// Prints a result. Returns whether it is that of a dead call, which the exit code has to say.
    pub fn print(self, completed: &Completed) -> anyhow::Result<bool> {
        output::json_line(&completed.json)?;
        Ok(self == Self::Fail && completed.result()?.status == Status::Dead)
    }
}

/// Waits for results, at most this many seconds, and prints them as they arrive.
pub async fn wait_all(
    client: &Client,
    ids: Vec<TaskId>,
    seconds: Option<u32>,
    dead_calls: DeadCalls,
) -> anyhow::Result<ExitCode> {
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let (mut is_dead, mut is_missing) = (false, false);
    let mut results = client.wait_all(ids).await?;
    loop {
        let next = match deadline {
            None => results.next().await,
            Some(deadline) => match tokio::time::timeout_at(deadline, results.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        let Some(completed) = next else { break };
        is_dead |= dead_calls.print(&completed)?;
    }
    for id in results.outstanding() {
        // Once more, so that a failing Redis is not mistaken for an unfinished task.
        if let Some(completed) = client.result(id).await? {
            is_dead |= dead_calls.print(&completed)?;
        } else {
            is_missing = true;
            output::complain(&format!("{id}: no result in queue {} in time", client.queue().name()));
        }
    }
    Ok(super::exit_code(is_missing, is_dead))
}
