//! `redial cancel`

use std::process::ExitCode;

use redial::{Cancelled, Client, TaskId};
use serde_json::json;

use super::status;
use crate::output::{self, Output, Tint};

/// Cancel calls wherever they are; exit code 3 if one has finished already or is not found.
///
/// Each becomes a dead letter with the reason `cancelled`. A call in flight is aborted within two seconds; the upstream may have acted on
/// it already. `redial dead replay` undoes a cancellation.
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// How many tasks to search in each state, in the order in which they will be claimed: there is no index of ids.
    #[arg(long, value_name = "TASKS", default_value_t = 1_000_000)]
    search_limit: usize,
}

impl CancelArgs {
    pub async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for id in &self.ids {
            let id = TaskId::new(id)?;
            let (is_done, outcome, details) = match client.cancel(&id, self.search_limit).await? {
                Cancelled::Done(was) => (true, output::paint("cancelled", Tint::Good), format!("was {}", was.state())),
                Cancelled::Ended(location) => (false, "too late".into(), status::describe(&location)),
                Cancelled::NotFound(search) => {
                    (false, output::paint("not found", Tint::Bad), status::why_not_found(&search))
                }
            };
            output.print(
                || format!("{id}  {outcome}  {details}"),
                || json!({"id": id, "cancelled": is_done, "why": details}),
            )?;
            if !is_done {
                code = ExitCode::from(super::NOT_FOUND);
            }
        }
        Ok(code)
    }
}
