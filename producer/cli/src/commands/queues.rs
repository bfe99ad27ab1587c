//! `redial queues`, `redial workers`, `redial pause`, `redial resume`

use std::collections::BTreeSet;
use std::process::ExitCode;

use redial_core::queue::admin::Overview;
use redial_core::{Queue, QueueName, UnixMs};
use serde_json::json;

use crate::output::{self, Tint};

/// Which queues: those that ever had a worker, unless some are named. Their tasks are not looked at, so this is cheap however many
/// there are.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Queues.
    #[arg(value_name = "QUEUE")]
    names: Vec<String>,
}

/// One queue.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The queue.
    #[arg(value_name = "QUEUE")]
    name: String,
}

impl Which {
    async fn overviews(&self, queue: &Queue) -> anyhow::Result<Vec<(QueueName, Overview)>> {
        let mut names: BTreeSet<QueueName> =
            self.names.iter().map(|name| QueueName::new(name)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            names = queue.db().known_queues().await?;
        }
        if names.is_empty() {
            output::complain("no queue has had a worker yet: start one, or name a queue");
        }
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let overview = queue.db().queue(name.clone()).overview().await?;
            found.push((name, overview));
        }
        Ok(found)
    }

    /// `redial queues`
    pub async fn list(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let found = self.overviews(queue).await?;
        if !as_json && !found.is_empty() {
            output::line(
                "QUEUE                   WAITING   ACTIVE  SCHEDULED     PARKED     DEAD   COMPLETED        DIED  WORKERS",
            )?;
        }
        for (name, at) in found {
            let workers = at.workers.iter().filter(|worker| worker.lease_until > UnixMs::local_now()).count();
            if as_json {
                let line = json!({
                    "queue": name.as_str(), "paused": at.paused, "waiting": at.waiting, "active": at.active,
                    "scheduled": at.scheduled, "parked": at.parked, "dead": at.dead, "completed": at.completed,
                    "died": at.died, "workers": workers,
                });
                output::line(&line.to_string())?;
                continue;
            }
            let dead = format!("{:>8}", at.dead);
            let dead = if at.dead > 0 { output::paint(&dead, Tint::Bad) } else { dead };
            let paused = if at.paused { output::paint("  paused", Tint::Bad) } else { String::new() };
            output::line(&format!(
                "{:<20} {:>10} {:>8} {:>10} {:>10} {dead} {:>11} {:>11} {workers:>8}{paused}",
                name.as_str(),
                at.waiting,
                at.active,
                at.scheduled,
                at.parked,
                at.completed,
                at.died
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// `redial workers`
    pub async fn workers(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let found = self.overviews(queue).await?;
        let now = UnixMs::local_now();
        let mut shown = 0;
        for (name, at) in &found {
            for worker in &at.workers {
                shown += 1;
                let is_gone = worker.lease_until <= now;
                if as_json {
                    let line = json!({
                        "queue": name.as_str(), "worker": worker.worker.as_str(), "tasks": worker.tasks,
                        "lease_until_ms": worker.lease_until, "gone": is_gone,
                    });
                    output::line(&line.to_string())?;
                    continue;
                }
                let lease = if is_gone {
                    output::paint("gone; another worker takes back what it held", Tint::Bad)
                } else {
                    format!("lease ends in {} s", worker.lease_until.since(now) / 1_000)
                };
                let queue = name.as_str();
                output::line(&format!(
                    "{queue:<20} {:<20} {:>5} tasks  {lease}",
                    worker.worker.as_str(),
                    worker.tasks
                ))?;
            }
        }
        if shown == 0 && !as_json && !found.is_empty() {
            output::complain("no workers are running");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl One {
    /// `redial pause`
    pub async fn pause(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let queue = queue.db().queue(QueueName::new(&self.name)?);
        let changed = queue.pause().await?;
        let said = if changed { "paused: nothing more is claimed, what is in hand ends" } else { "was paused already" };
        say(&queue, true, changed, said, as_json)
    }

    /// `redial resume`
    pub async fn resume(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let queue = queue.db().queue(QueueName::new(&self.name)?);
        let changed = queue.resume().await?;
        let said = if changed { "resumed: workers claim from it within 2 s" } else { "was not paused" };
        say(&queue, false, changed, said, as_json)
    }
}

fn say(queue: &Queue, paused: bool, changed: bool, said: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let name = queue.name();
    output::line(&if as_json {
        json!({"queue": name.as_str(), "paused": paused, "changed": changed}).to_string()
    } else {
        format!("queue {name} {said}")
    })?;
    Ok(ExitCode::SUCCESS)
}
