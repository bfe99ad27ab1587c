//! `redial result`

use std::process::ExitCode;

use redial::Producer;
use redial_core::TaskId;

use crate::output;

/// Print the result of calls; exit code 3 when one has none, not yet or no longer.
///
/// As they stand in Redis: JSON, one a line.
#[derive(Debug, clap::Args)]
pub struct Results {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Results {
    pub async fn run(self, producer: &Producer) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for id in self.ids {
            let id = TaskId::new(&id).map_err(anyhow::Error::msg)?;
            if let Some(result) = producer.result(&id).await? {
                output::line(&result)?;
            } else {
                output::complain(&format!(
                    "{id}: no result in queue {}: not answered yet, never pushed there, or its result_ttl_ms is over",
                    producer.queue().name()
                ));
                code = ExitCode::from(crate::NOT_THERE);
            }
        }
        Ok(code)
    }
}
