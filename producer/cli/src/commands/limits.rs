//! `redial limits`

mod text;

use std::process::ExitCode;

use anyhow::ensure;
use redial_core::Queue;
use redial_core::limit::{LimitStatus, Limits};
use redial_core::protocol::task::Limit;
use redial_core::shown::json;

use crate::output::{self, Output};

/// Show the limits that the fleet shares, or set one by hand.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, flatten_help = true)]
pub struct LimitsArgs {
    #[command(subcommand)]
    command: Option<LimitsCommand>,
}

/// How many fairness keys are shown of each queue: those that wait for the most.
const MAX_KEYS: usize = 20;

#[derive(Debug, clap::Subcommand)]
enum LimitsCommand {
    /// List the limits in use, a line each. The default without a command.
    List {
        /// The maximum number to list.
        #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// Show everything about one limit: who defines it and how, what is left, who waits by queue and fairness key, and since when and why it
    /// is closed. Exit code 3 if it is not in use.
    Show {
        /// The limit's name.
        name: String,
    },
    /// Set a limit, overriding the configuration and tasks. It takes effect at once, also for tasks that wait for it in any queue.
    Set(SetLimitArgs),
    /// Let the configuration and tasks define a limit again; exit code 3 if it was not set.
    #[command(visible_alias = "clear")]
    Unset {
        /// The limit's name.
        name: String,
    },
    /// Make all of a limit available at once, as if nothing had been used, and open it if an upstream had it closed. Its definition
    /// stays. Exit code 3 if it is not in use.
    Reset {
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
    /// What the rate counts, such as usd.
    #[arg(long, requires = "rate")]
    unit: Option<String>,
}

impl LimitsArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let limits = queue.db().limits();
        match self.command.unwrap_or(LimitsCommand::List { limit: usize::MAX }) {
            LimitsCommand::List { limit } => list(&limits, limit, output).await,
            LimitsCommand::Show { name } => show(&limits, &name, output).await,
            LimitsCommand::Set(SetLimitArgs { name, rate, per_ms, burst, concurrency, unit }) => {
                let limit = Limit { rate, per_ms, burst, concurrency, unit, ..Limit::named(name) };
                limit.check()?;
                limits.set(&limit).await?;
                print(&limits.inspect(&limit.name).await?, output)
            }
            LimitsCommand::Unset { name } => {
                ensure!(!name.is_empty(), "the name is empty: `redial limits` lists the limits in use");
                if !limits.unset(&name).await? {
                    output::complain(&format!("the limit {name:?} was not set: nothing to unset"));
                    return Ok(ExitCode::from(super::NOT_FOUND));
                }
                output.print(
                    || "unset: the configuration and tasks define it again".into(),
                    || serde_json::json!({"unset": true}),
                )?;
                Ok(ExitCode::SUCCESS)
            }
            LimitsCommand::Reset { name } => {
                if !limits.reset(&name).await? {
                    return Ok(not_in_use(&name));
                }
                print(&limits.inspect(&name).await?, output)
            }
        }
    }
}

/// Prints page after page, as they come.
async fn list(limits: &Limits, max: usize, output: Output) -> anyhow::Result<ExitCode> {
    let (mut from, mut shown) = (Some(0), 0);
    while let Some(cursor) = from.filter(|_| shown < max) {
        let (page, next) = limits.page(cursor).await?;
        for status in page.iter().take(max - shown) {
            print(status, output)?;
            shown += 1;
        }
        from = next;
    }
    if shown == 0 {
        output.note(|| {
            "no limit is in use: tasks name limits in `limit`, workers in [[limit]]; `redial limits set` sets one"
                .into()
        });
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(limits: &Limits, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let status = limits.inspect(name).await?;
    if status.source.is_none() {
        return Ok(not_in_use(name));
    }
    let mut keys = Vec::new();
    for (queue, _) in &status.waiting {
        keys.extend(limits.waiting_keys(name, queue, MAX_KEYS).await?);
    }
    output.print_lines(|| text::in_full(&status, &keys), || json::limit_in_full(&status, &keys))?;
    Ok(ExitCode::SUCCESS)
}

fn print(status: &LimitStatus, output: Output) -> anyhow::Result<ExitCode> {
    output.print(|| text::line(status), || json::limit(status))?;
    Ok(ExitCode::SUCCESS)
}

fn not_in_use(name: &str) -> ExitCode {
    output::complain(&format!("no limit {name:?} is in use: `redial limits` lists those that are"));
    ExitCode::from(super::NOT_FOUND)
}
