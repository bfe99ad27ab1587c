//! `redial enqueue`

mod options;

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use redial::{Client, PreparedTask, TaskId, prepare};
use redial_core::fleet::AnnouncedWorker;
use redial_core::protocol::task::{MAX_BYTES, Task};
use serde_json::json;

pub use options::headers;

use super::wait::{self, DeadCalls};
use crate::output::{self, Output};
use options::TaskOptions;

/// How many tasks are pushed at a time.
const MAX_PUSH: usize = 1_000;
/// How many ignored fields are named.
const MAX_IGNORED: usize = 20;

/// Enqueue calls; prints the id of each, or with --wait its result.
///
/// There are three ways: whole tasks as JSON; `-` to read tasks from standard input, one per line; or --url and its options.
/// A field that the protocol does not have, and a queue that no worker serves, are reported on standard error.
#[derive(Debug, clap::Args)]
pub struct EnqueueArgs {
    /// Tasks as JSON, or - to read them from standard input, one per line.
    #[arg(value_name = "TASK", required_unless_present = "url", conflicts_with = "url")]
    tasks: Vec<String>,
    /// Wait for the results, at most this many seconds, and print them instead of the ids; the exit codes are those of `redial wait`.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "not given, given alone, or with a bound")]
    wait: Option<Option<u32>>,
    /// With --wait: exit code 0 although a call is dead.
    #[arg(long, requires = "wait")]
    ok_dead: bool,
    #[command(flatten)]
    options: TaskOptions,
}

impl EnqueueArgs {
    pub async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        let mut pushing = Pushing::new(client, output, self.wait.is_some());
        if let Some(url) = &self.options.url {
            pushing.push(&[prepare(&self.options.task(url)?)?]).await?;
        } else if self.tasks == ["-"] {
            pushing.push_lines().await?;
        } else {
            let tasks = self.tasks.iter().map(|task| prepare(task)).collect::<Result<Vec<_>, _>>()?;
            pushing.push(&tasks).await?;
        }
        pushing.warn().await;
        let Some(seconds) = self.wait else { return Ok(ExitCode::SUCCESS) };
        wait::wait_all(client, pushing.awaited, seconds, DeadCalls::new(self.ok_dead)).await
    }
}

/// The tasks of one command on their way to Redis.
struct Pushing<'a> {
    client: &'a Client,
    output: Output,
    /// Whether results are waited for. Then they are printed, and not the ids.
    waits: bool,
    awaited: Vec<TaskId>,
    /// The fields that workers will ignore.
    ignored: BTreeSet<String>,
}

impl<'a> Pushing<'a> {
    fn new(client: &'a Client, output: Output, waits: bool) -> Self {
        Self { client, output, waits, awaited: Vec::new(), ignored: BTreeSet::new() }
    }

    async fn push(&mut self, tasks: &[PreparedTask]) -> anyhow::Result<()> {
        self.client.push(tasks).await?;
        for prepared in tasks {
            if let Ok(task) = Task::parse(prepared.json.as_bytes(), MAX_BYTES) {
                self.ignored.extend(task.unknown.into_iter().take(MAX_IGNORED - self.ignored.len().min(MAX_IGNORED)));
            }
            if self.waits {
                self.awaited.push(prepared.id.clone());
            } else {
                let id = prepared.id.as_str();
                self.output.print(|| id.to_owned(), || json!({ "id": id }))?;
            }
        }
        Ok(())
    }

    /// Pushes the lines of standard input. Every line is checked before it is pushed; the first invalid one ends the command, which says
    /// how many were pushed.
    async fn push_lines(&mut self) -> anyhow::Result<()> {
        let mut batch: Vec<PreparedTask> = Vec::with_capacity(MAX_PUSH);
        let mut pushed = 0_usize;
        for (number, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.with_context(|| format!("line {}", number + 1))?;
            if line.trim().is_empty() {
                continue;
            }
            match prepare(&line) {
                Ok(task) => batch.push(task),
                Err(error) => {
                    self.push(&batch).await?;
                    pushed += batch.len();
                    bail!("line {}: {error} ({pushed} tasks before it were pushed)", number + 1);
                }
            }
            if batch.len() == MAX_PUSH {
                self.push(&batch).await?;
                pushed += batch.len();
                batch.clear();
            }
        }
        ensure!(pushed > 0 || !batch.is_empty(), "standard input contains no task: use one as JSON per line");
        self.push(&batch).await
    }

    /// Says what will surprise: fields that have no effect, and a queue that nobody serves.
    async fn warn(&self) {
        if !self.ignored.is_empty() {
            let fields: Vec<String> = self.ignored.iter().map(|field| output::escaped(field)).collect();
            output::complain(&format!(
                "the protocol has no field {}: workers ignore it; docs/protocol.md lists those that there are",
                fields.join(", ")
            ));
        }
        let queue = self.client.queue();
        // A producer may not be allowed to ask. Its tasks are pushed, and that is what counts.
        let (Ok(now), Ok(workers)) = (queue.db().now().await, queue.db().announced_workers().await) else { return };
        let serves = |worker: &AnnouncedWorker| worker.until > now && worker.serving.queues.contains(queue.name());
        if !workers.iter().any(serves) {
            let name = queue.name();
            output::complain(&format!(
                "no worker serves the queue {name}: the calls wait until one with REDIAL_QUEUES={name} is started"
            ));
        }
    }
}
