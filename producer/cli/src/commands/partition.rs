//! `redial partition`

use std::process::ExitCode;

use anyhow::bail;
use redial_core::queue::partitions::Partitioning;
use redial_core::{Queue, QueueName};
use serde_json::json;

use crate::output::Output;

/// Spread a queue over partitions, each in a hash slot of its own, so that it can use several nodes of a Cluster. Without a number, show it.
///
/// Work goes on meanwhile: workers take from new partitions within seconds, and the calls that wait stay where they are. The number can be
/// raised at any time, but not lowered. Programs that push to the queue's own list need to know of nothing.
#[derive(Debug, clap::Args)]
pub struct PartitionArgs {
    /// The queue.
    #[arg(value_name = "QUEUE")]
    name: String,
    /// How many partitions it is to have: about four for each node.
    #[arg(value_name = "PARTITIONS", value_parser = clap::value_parser!(u16).range(1..=256))]
    partitions: Option<u16>,
    /// Also if queues named QUEUE/0, QUEUE/1 and so on are in use: what is in them becomes part of this queue.
    #[arg(long, requires = "partitions")]
    adopt: bool,
}

impl PartitionArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let queue = queue.db().queue(QueueName::new(&self.name)?);
        let name = queue.name();
        let Some(wanted) = self.partitions.map(usize::from) else {
            let partitions = queue.parts_now().await?.len() - 1;
            output.print(
                || format!("queue {name} has {partitions} partitions"),
                || json!({"queue": name.as_str(), "partitions": partitions}),
            )?;
            return Ok(ExitCode::SUCCESS);
        };
        match queue.set_partitions(wanted, self.adopt).await? {
            Partitioning::Done { partitions, before } => {
                let changed = partitions != before;
                let outcome = if changed { "has now" } else { "had already" };
                output.print(
                    || format!("queue {name} {outcome} {partitions} partitions"),
                    || json!({"queue": name.as_str(), "partitions": partitions, "changed": changed}),
                )?;
                Ok(ExitCode::SUCCESS)
            }
            Partitioning::HasMore(partitions) => bail!(
                "queue {name} has {partitions} partitions, and the number cannot be lowered: calls may be in any of them"
            ),
            Partitioning::InUse(queues) => {
                let queues: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
                bail!(
                    "these queues are in use, and would become partitions of {name}: {}. Add --adopt if that is meant, or use another name",
                    queues.join(", ")
                )
            }
            Partitioning::IsPartition(whole) => {
                bail!("{name} is a partition of queue {whole}: spread that one over more")
            }
        }
    }
}
