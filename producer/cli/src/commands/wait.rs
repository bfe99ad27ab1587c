//! `redial wait`

use std::process::ExitCode;
use std::time::Duration;

use redial::Producer;
use redial_core::TaskId;
use tokio::time::Instant;

use crate::output;

/// Wait for the results of calls and print them as they come; exit code 3 when one has none in time.
///
/// JSON, one a line. Nothing is polled.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// How long to wait for all of them, in seconds; default: for ever.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

impl Wait {
    pub async fn run(self, producer: &Producer) -> anyhow::Result<ExitCode> {
        let ids: Vec<TaskId> =
            self.ids.iter().map(|id| TaskId::new(id)).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
        let until = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        let mut answers = producer.wait_all(ids).await?;
        loop {
            let next = match until {
                None => answers.next().await,
                Some(until) => match tokio::time::timeout_at(until, answers.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            let Some(answered) = next else { return Ok(ExitCode::SUCCESS) };
            output::line(&answered.json)?;
        }
        for id in answers.left() {
            // Once more, so that an error of Redis is not taken for silence.
            match producer.result(id).await? {
                Some(result) => output::line(&result)?,
                None => output::complain(&format!("{id}: no result in queue {} in time", producer.queue().name())),
            }
        }
        Ok(ExitCode::from(crate::NOT_THERE))
    }
}
