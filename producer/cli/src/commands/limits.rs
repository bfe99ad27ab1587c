//! `redial limits`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use redial_core::Queue;
use redial_core::limit::{DefinedBy, LimitStatus, Limits};
use redial_core::protocol::task::Limit;
use serde_json::json;

use crate::output;

/// Limits that the fleet shares, as they stand now; or say by hand what one is.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, flatten_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what a limit is, before all that configuration and tasks say. In force at once; what waits for it, in whichever queue, asks again.
    Set(Set),
    /// Go back to what configuration and tasks say; exit code 3 when it was not set.
    Unset {
        /// The limit's name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The limit's name.
    name: String,
    /// How many calls, or how much of what they cost, in each `--per-ms`.
    #[arg(long)]
    rate: Option<f64>,
    /// The time that the rate is for, in ms; 1000 unless said.
    #[arg(long, requires = "rate")]
    per_ms: Option<u64>,
    /// How much may go at once; one second's worth unless said.
    #[arg(long, requires = "rate")]
    burst: Option<f64>,
    /// The most calls in flight.
    #[arg(long, required_unless_present = "rate")]
    concurrency: Option<u32>,
}

impl Args {
    pub async fn run(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let limits = queue.db().limits();
        match self.command {
            None => list(&limits.list().await?, as_json),
            Some(Command::Set(Set { name, rate, per_ms, burst, concurrency })) => {
                let limit = Limit { name, cost: None, rate, per_ms, burst, concurrency, usage: None };
                limit.check().map_err(|error| anyhow!(error))?;
                limits.set(&limit).await?;
                wake_waiters(&limits, &limit.name).await?;
                list(&[limits.inspect(&limit.name).await?], as_json)
            }
            Some(Command::Unset { name }) => {
                ensure!(!name.is_empty(), "the name is empty: `redial limits` lists those there are");
                if !limits.unset(&name).await? {
                    output::complain(&format!("the limit {name:?} was not set: nothing to take back"));
                    return Ok(ExitCode::from(crate::NOT_THERE));
                }
                wake_waiters(&limits, &name).await?;
                output::line(if as_json { "{\"unset\":true}" } else { "unset: configuration and tasks count again" })?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Twice, for those that had asked before the change and were not parked yet.
async fn wake_waiters(limits: &Limits, name: &str) -> anyhow::Result<()> {
    limits.wake_waiters(name).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(limits.wake_waiters(name).await?)
}

fn list(statuses: &[LimitStatus], as_json: bool) -> anyhow::Result<ExitCode> {
    if statuses.is_empty() && !as_json {
        output::complain(
            "no limit is in use: a task names one in `limit`, workers in [[limit]], or use `redial limits set`",
        );
    }
    for status in statuses {
        output::line(&if as_json { object(status).to_string() } else { text(status) })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn source(status: &LimitStatus) -> &'static str {
    status.source.map_or("none", DefinedBy::as_str)
}

fn object(status: &LimitStatus) -> serde_json::Value {
    let LimitStatus { name, limit, left, flows, in_flight, .. } = status;
    json!({
        "name": name, "defined_by": source(status), "rate": limit.rate, "per_ms": limit.per_ms, "burst": limit.burst,
        "concurrency": limit.concurrency, "left": left, "in_flight": in_flight, "flows_waiting": flows,
        "closed_ms": ms(status.closed), "clears_in_ms": ms(status.clears_in),
    })
}

fn text(status: &LimitStatus) -> String {
    let LimitStatus { name, limit, .. } = status;
    let mut words = vec![format!("{name} ({})", source(status))];
    if let Some(rate) = limit.rate {
        words.push(format!("{rate} in {} ms", limit.per_ms.unwrap_or(1000)));
        words.extend(limit.burst.map(|burst| format!("burst {burst}")));
        words.extend(status.left.map(|left| format!("left {left:.1}")));
    }
    words.extend(limit.concurrency.map(|most| format!("in flight {} of {most}", status.in_flight)));
    if !status.closed.is_zero() {
        words.push(format!("closed for {} ms, as the upstream asked", ms(status.closed)));
    }
    if status.flows > 0 {
        let (flows, s) = (status.flows, if status.flows == 1 { "" } else { "s" });
        words.push(format!("{flows} flow{s} waiting, the last call in {} ms", ms(status.clears_in)));
    }
    words.join("  ")
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
