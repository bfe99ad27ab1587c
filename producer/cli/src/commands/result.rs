//! `redial result`

use std::process::ExitCode;

use redial::{Client, TaskId};

use crate::output;

/// Print the results of calls as JSON, one per line; exit code 3 if one has no result, not yet or no longer.
#[derive(Debug, clap::Args)]
pub struct ResultArgs {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl ResultArgs {
    pub async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for id in self.ids {
            let id = TaskId::new(&id)?;
            if let Some(completed) = client.result(&id).await? {
                output::line(&completed.json)?;
            } else {
                output::complain(&format!(
                    "{id}: no result in queue {}: it is not finished, was never pushed there, or its result expired",
                    client.queue().name()
                ));
                code = ExitCode::from(super::NOT_FOUND);
            }
        }
        Ok(code)
    }
}
