//! `redial breakers`

use std::process::ExitCode;

use redial_core::breaker::BreakerState;
use redial_core::{Queue, UnixMs};
use serde_json::json;

use crate::output;

/// Upstreams that are down, or coming back, for the whole fleet.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub async fn run(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let listed = queue.db().breakers().list().await?;
        if listed.is_empty() && !as_json {
            output::complain("no breaker is open: every upstream that is called is up");
        }
        for (upstream, state, since) in listed {
            let for_ms = UnixMs::local_now().since(since);
            output::line(&if as_json {
                json!({"upstream": upstream, "state": state.as_str(), "since_ms": since.0, "for_ms": for_ms})
                    .to_string()
            } else {
                let says = match state {
                    BreakerState::HalfOpen => "coming back: more and more calls go",
                    _ => "down: its tasks wait, one probe at a time tries it",
                };
                format!("{upstream}  {}  for {} s  {says}", state.as_str(), for_ms / 1000)
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
