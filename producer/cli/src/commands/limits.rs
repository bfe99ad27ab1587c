//! `redial limits`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use redial_core::Queue;
use redial_core::limit::{DefinedBy, LimitStatus};
use redial_core::protocol::task::Limit;
use serde_json::{Value, json};

use crate::output::{self, Output};

/// Show the limits that the fleet shares, or set one by hand.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, flatten_help = true)]
pub struct LimitsArgs {
    #[command(subcommand)]
    command: Option<LimitsCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum LimitsCommand {
    /// Set a limit, overriding the configuration and tasks. It takes effect at once, also for tasks that wait for it in any queue.
    Set(SetLimitArgs),
    /// Let the configuration and tasks define a limit again; exit code 3 if it was not set.
    Unset {
        /// The limit's name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct SetLimitArgs {
    /// The limit's name.
    name: String,
    /// How many calls, or units of their cost, per `--per-ms`.
    #[arg(long)]
    rate: Option<f64>,
    /// The period of the rate, in ms. Default: 1000.
    #[arg(long, requires = "rate")]
    per_ms: Option<u64>,
    /// How much may be taken at once. Default: one second's worth of the rate.
    #[arg(long, requires = "rate")]
    burst: Option<f64>,
    /// The maximum number of calls in flight.
    #[arg(long, required_unless_present = "rate")]
    concurrency: Option<u32>,
}

impl LimitsArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let limits = queue.db().limits();
        match self.command {
            None => list(&limits.list().await?, output),
            Some(LimitsCommand::Set(SetLimitArgs { name, rate, per_ms, burst, concurrency })) => {
                let limit = Limit { rate, per_ms, burst, concurrency, ..Limit::named(name) };
                limit.check()?;
                limits.set(&limit).await?;
                list(&[limits.inspect(&limit.name).await?], output)
            }
            Some(LimitsCommand::Unset { name }) => {
                ensure!(!name.is_empty(), "the name is empty: `redial limits` lists the limits in use");
                if !limits.unset(&name).await? {
                    output::complain(&format!("the limit {name:?} was not set: nothing to unset"));
                    return Ok(ExitCode::from(super::NOT_FOUND));
                }
                output
                    .print(|| "unset: the configuration and tasks define it again".into(), || json!({"unset": true}))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn list(statuses: &[LimitStatus], output: Output) -> anyhow::Result<ExitCode> {
    if statuses.is_empty() {
        output.note(|| {
            "no limit is in use: tasks name limits in `limit`, workers in [[limit]]; `redial limits set` sets one"
                .into()
        });
    }
    for status in statuses {
        output.print(|| to_text(status), || to_json(status))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn source(status: &LimitStatus) -> &'static str {
    status.source.map_or("none", DefinedBy::as_str)
}

fn to_json(status: &LimitStatus) -> Value {
    let LimitStatus { name, limit, left, waiting, in_flight, .. } = status;
    json!({
        "name": name, "defined_by": source(status), "rate": limit.rate, "per_ms": limit.per_ms, "burst": limit.burst,
        "concurrency": limit.concurrency, "left": left, "in_flight": in_flight, "waiting": waiting,
        "closed_ms": ms(status.closed),
    })
}

fn to_text(status: &LimitStatus) -> String {
    let LimitStatus { name, limit, .. } = status;
    let mut parts = vec![format!("{name} ({})", source(status))];
    if let Some(rate) = limit.rate {
        parts.push(format!("{rate} in {} ms", limit.per_ms.unwrap_or(1000)));
        parts.extend(limit.burst.map(|burst| format!("burst {burst}")));
        parts.extend(status.left.map(|left| format!("left {left:.1}")));
    }
    parts.extend(limit.concurrency.map(|max| format!("in flight {} of {max}", status.in_flight)));
    if !status.closed.is_zero() {
        parts.push(format!("closed for {} ms, as the upstream asked", ms(status.closed)));
    }
    if status.waiting > 0 {
        parts.push(format!("{} waiting", status.waiting));
    }
    parts.join("  ")
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
