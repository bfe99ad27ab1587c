//! `redial top`: the fleet, live in a terminal.
//!
//! - [`observe`]: what there is to see, read from Redis
//! - [`table`]: rows and columns; [`panes`]: what each pane shows
//! - [`screen`]: what is shown now, and what a key does; [`draw`]: how it looks
//! - [`live`]: the terminal, from entering it to restoring it; [`plain`]: one frame without a terminal

mod draw;
mod live;
mod observe;
mod panes;
mod plain;
mod screen;
mod table;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use redial_core::{Queue, QueueName};

use crate::output::{self, Output};
use observe::FleetObserver;

/// Watch the fleet live: queues, upstreams, why work waits, workers, limits, dead letters. The key ? lists all keys.
///
/// It reads no tasks, so it is cheap however many there are.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// The queues. Default: all that have had a worker.
    #[arg(value_name = "QUEUE")]
    names: Vec<String>,
    /// Print one frame as plain text, and end.
    #[arg(long)]
    once: bool,
    /// How often the numbers are read, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
}

impl TopArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let names: Vec<QueueName> = self.names.iter().map(|name| QueueName::new(name)).collect::<Result<_, _>>()?;
        let observer = FleetObserver::new(queue.db().clone(), names);
        if self.once {
            plain::print(observer, output).await?;
            return Ok(ExitCode::SUCCESS);
        }
        ensure!(output == Output::Text, "a live view has no JSON: add --once");
        let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !output::is_dumb();
        ensure!(
            has_terminal,
            "redial top needs a terminal: `redial top --once` prints one frame, `redial queues --watch` goes on counting"
        );
        live::run(observer, Duration::from_secs(self.interval)).await?;
        Ok(ExitCode::SUCCESS)
    }
}
