//! `redial result`

use std::process::ExitCode;

use redial::{Client, TaskId};

use super::wait::DeadCalls;
use crate::output;

/// Print the results of calls as JSON, one per line; exit code 3 if one has no result, not yet or no longer, else 5 if a call is dead.
#[derive(Debug, clap::Args)]
pub struct ResultArgs {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Exit code 0 although a call is dead.
    #[arg(long)]
    ok_dead: bool,
}

impl ResultArgs {
    pub async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let dead_calls = DeadCalls::new(self.ok_dead);
        let (mut is_dead, mut is_missing) = (false, false);
        for id in self.ids {
            let id = TaskId::new(&id)?;
            if let Some(completed) = client.result(&id).await? {
                is_dead |= dead_calls.print(&completed)?;
            } else {
                output::complain(&format!(
                    "{id}: no result in queue {}: it is not finished, was never pushed there, or its result expired",
                    client.queue().name()
                ));
                is_missing = true;
            }
        }
        Ok(super::exit_code(is_missing, is_dead))
    }
}
