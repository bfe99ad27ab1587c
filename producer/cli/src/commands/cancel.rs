//! `redial cancel`

use std::process::ExitCode;

use redial::{Cancelled, Producer};
use redial_core::TaskId;
use serde_json::json;

use super::status;
use crate::output::{self, Tint};

/// End calls before their answer, wherever they are; exit code 3 when one has ended already or is not found.
///
/// Each becomes a dead letter with the reason `cancelled`, and so says its result. A call that is in flight is given up within two
/// seconds; the upstream may have acted on it already. `redial dead replay` takes it back.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// The most tasks to look at in each place, those first that are taken first: there is no index of ids.
    #[arg(long, default_value_t = 1_000_000)]
    most: usize,
}

impl Cancel {
    pub async fn run(self, producer: &Producer, as_json: bool) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for id in &self.ids {
            let id = TaskId::new(id).map_err(anyhow::Error::msg)?;
            let (is_done, state, more) = match producer.cancel(&id, self.most).await? {
                Cancelled::Done(was) => {
                    (true, output::paint("cancelled", Tint::Good), format!("was {}", status::state(&was)))
                }
                Cancelled::Ended(place) => (false, "too late".into(), status::to_text(&place)),
                Cancelled::NotFound(search) => (false, output::paint("not found", Tint::Bad), status::why(&search)),
            };
            if as_json {
                output::line(&json!({"id": id, "cancelled": is_done, "why": more}).to_string())?;
            } else {
                output::line(&format!("{id}  {state}  {more}"))?;
            }
            if !is_done {
                code = ExitCode::from(crate::NOT_THERE);
            }
        }
        Ok(code)
    }
}
