//! `redial queues`, `redial workers`, `redial pause`, `redial resume`

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use redial_core::queue::admin::{Overview, WorkerInfo};
use redial_core::{Error, Queue, QueueName, UnixMs};
use serde_json::json;

use crate::output::{self, Output, Tint};

/// Queues: by default all that have ever had a worker. Their tasks are not read, so this is cheap however many there are.
#[derive(Debug, clap::Args)]
pub struct QueuesArgs {
    /// The queues.
    #[arg(value_name = "QUEUE")]
    names: Vec<String>,
}

/// The same, perhaps again and again.
#[derive(Debug, clap::Args)]
pub struct WatchQueuesArgs {
    #[command(flatten)]
    queues: QueuesArgs,
    /// List them again every so many seconds, 2 by default, until it is stopped: over the list before on a terminal, else below it.
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
}

impl WatchQueuesArgs {
    /// `redial queues`
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let Some(seconds) = self.watch else { return self.queues.list_queues(queue, output).await };
        loop {
            // What is on the screen stays until there is something to put in its place.
            let listed = match self.queues.overviews(queue).await {
                Ok(overviews) => {
                    output::begin_screen()?;
                    show_queues(queue, overviews, output).await
                }
                Err(error) => Err(error),
            };
            match listed {
                // Redis may come back.
                Err(error) if error.downcast_ref().is_some_and(Error::is_temporary) => {
                    output::complain(&format!("{error:#}; trying again"));
                }
                listed => listed?,
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }
}

/// One queue.
#[derive(Debug, clap::Args)]
pub struct QueueArgs {
    /// The queue.
    #[arg(value_name = "QUEUE")]
    name: String,
}

const HEADER: &str =
    "QUEUE                   WAITING   ACTIVE  SCHEDULED     PARKED     DEAD   COMPLETED        DIED  WORKERS";

async fn show_queues(queue: &Queue, overviews: Vec<(QueueName, Overview)>, output: Output) -> anyhow::Result<()> {
    if output == Output::Text && !overviews.is_empty() {
        output::line(HEADER)?;
    }
    let now = queue.db().now().await?;
    for (name, at) in overviews {
        let workers = at.workers.iter().filter(|worker| worker.lease_until > now).count();
        let json = || {
            json!({
                "queue": name.as_str(), "paused": at.paused, "waiting": at.waiting, "active": at.active,
                "scheduled": at.scheduled, "parked": at.parked, "dead": at.dead, "completed": at.completed,
                "died": at.died, "workers": workers,
            })
        };
        output.print(|| row(&name, &at, workers), json)?;
        complain_of_misplaced(&queue.db().queue(name)).await?;
    }
    Ok(())
}

impl QueuesArgs {
    async fn overviews(&self, queue: &Queue) -> anyhow::Result<Vec<(QueueName, Overview)>> {
        let mut names: BTreeSet<QueueName> =
            self.names.iter().map(|name| QueueName::new(name)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            names = queue.db().known_queues().await?;
        }
        if names.is_empty() {
            output::complain("no queue has had a worker yet: start one, or name a queue");
        }
        Ok(queue.db().overviews(names).await?)
    }

    async fn list_queues(&self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        show_queues(queue, self.overviews(queue).await?, output).await?;
        Ok(ExitCode::SUCCESS)
    }

    /// `redial workers`
    pub async fn list_workers(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let overviews = self.overviews(queue).await?;
        let now = queue.db().now().await?;
        let mut shown = 0;
        for (name, overview) in &overviews {
            for info in &overview.workers {
                shown += 1;
                let json = || {
                    json!({
                        "queue": name.as_str(), "worker": info.worker.as_str(), "tasks": info.tasks,
                        "lease_until_ms": info.lease_until, "gone": info.lease_until <= now,
                        "protocol": info.protocol, "release": info.release,
                    })
                };
                output.print(|| worker_row(name, info, now), json)?;
            }
        }
        if shown == 0 && !overviews.is_empty() {
            output.note(|| "no workers are running".into());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says so if tasks were pushed to the name of the queue's key without its braces.
async fn complain_of_misplaced(queue: &Queue) -> anyhow::Result<()> {
    let tasks = queue.pushed_without_braces().await?;
    if tasks > 0 {
        let (wrong, right) = queue.keys_without_and_with_braces();
        output::complain(&format!(
            "{tasks} tasks are in the list {wrong}, where no worker looks: push to {right}, braces included; \
             `redis-cli LMOVE {wrong} '{right}' RIGHT LEFT` moves one"
        ));
    }
    Ok(())
}

fn row(name: &QueueName, at: &Overview, workers: usize) -> String {
    let dead = format!("{:>8}", at.dead);
    let dead = if at.dead > 0 { output::paint(&dead, Tint::Bad) } else { dead };
    let paused = if at.paused { output::paint("  paused", Tint::Bad) } else { String::new() };
    format!(
        "{:<20} {:>10} {:>8} {:>10} {:>10} {dead} {:>11} {:>11} {workers:>8}{paused}",
        name.as_str(),
        at.waiting,
        at.active,
        at.scheduled,
        at.parked,
        at.completed,
        at.died
    )
}

fn worker_row(queue: &QueueName, info: &WorkerInfo, now: UnixMs) -> String {
    let lease = if info.lease_until <= now {
        output::paint("gone; another worker takes back its tasks", Tint::Bad)
    } else {
        format!("lease ends in {} s", info.lease_until.since(now) / 1_000)
    };
    let release = info.release.as_ref().map(|release| format!(", release {release}")).unwrap_or_default();
    let protocol = info.protocol.map(|protocol| format!(", protocol {protocol}")).unwrap_or_default();
    format!("{:<20} {:<20} {:>5} tasks  {lease}{release}{protocol}", queue.as_str(), info.worker.as_str(), info.tasks)
}

impl QueueArgs {
    /// `redial pause`
    pub async fn pause(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let queue = queue.db().queue(QueueName::new(&self.name)?);
        let changed = queue.pause().await?;
        let outcome =
            if changed { "paused: workers claim nothing more and finish what they hold" } else { "was paused already" };
        report(&queue, Pause { paused: true, changed }, outcome, output)
    }

    /// `redial resume`
    pub async fn resume(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let queue = queue.db().queue(QueueName::new(&self.name)?);
        let changed = queue.resume().await?;
        let outcome = if changed { "resumed: workers claim from it within 2 s" } else { "was not paused" };
        report(&queue, Pause { paused: false, changed }, outcome, output)
    }
}

/// Whether a queue is paused now, and whether that is a change.
struct Pause {
    paused: bool,
    changed: bool,
}

fn report(queue: &Queue, pause: Pause, outcome: &str, output: Output) -> anyhow::Result<ExitCode> {
    let (name, Pause { paused, changed }) = (queue.name().as_str(), pause);
    output
        .print(|| format!("queue {name} {outcome}"), || json!({"queue": name, "paused": paused, "changed": changed}))?;
    Ok(ExitCode::SUCCESS)
}
