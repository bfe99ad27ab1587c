//! `redial breakers`

use std::process::ExitCode;

use redial_core::Queue;
use redial_core::breaker::BreakerState;
use serde_json::json;

use crate::output::{self, Output};

/// List upstreams that are down or recovering, for the whole fleet.
#[derive(Debug, clap::Args)]
pub struct BreakersArgs {}

impl BreakersArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let breakers = queue.db().breakers().list().await?;
        if breakers.is_empty() {
            output.note(|| "no breaker is open: every upstream is up".into());
        }
        let now = queue.db().now().await?;
        for (upstream, state, since) in breakers {
            let for_ms = now.since(since);
            let text = || {
                let explanation = match state {
                    BreakerState::HalfOpen => "recovering: the share of calls that are let through is growing",
                    _ => "down: its tasks wait, and one probe at a time tests it",
                };
                format!("{}  {}  for {} s  {explanation}", output::escaped(&upstream), state.as_str(), for_ms / 1000)
            };
            let json = || json!({"upstream": upstream, "state": state.as_str(), "since_ms": since.0, "for_ms": for_ms});
            output.print(text, json)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
