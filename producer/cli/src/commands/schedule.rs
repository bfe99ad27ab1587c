//! `redial schedule`

use std::process::ExitCode;

use anyhow::Context as _;
use redial::{Client, Schedule};
use redial_core::shown::redact;
use serde_json::{Value, json};

use crate::output::{self, Output};

#[derive(Debug, clap::Subcommand)]
pub enum ScheduleCommand {
    /// Push a task at each time of a cron expression, once for the whole fleet. Replaces the schedule with this name; prints when it
    /// fires next.
    Add {
        /// The schedule's name. The task of each firing has the id NAME@TIME.
        name: String,
        /// When: minute, hour, day of the month, month, day of the week, as in '30 6 * * 1-5'; optionally seconds before them; or
        /// @hourly, @daily, ...
        cron: String,
        /// The task: a file, - for standard input, or JSON.
        task: String,
        /// The time zone, as in Europe/Berlin. Default: UTC.
        #[arg(long)]
        tz: Option<String>,
    },
    /// List schedules, and when each fires next.
    List,
    /// Remove schedules; exit code 3 if one does not exist.
    Remove {
        /// The schedules' names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl ScheduleCommand {
    pub async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Add { name, cron, task, tz } => {
                let next = client.schedule(&name, &cron, tz.as_deref(), &read_task(&task)?).await?;
                output.print(
                    || format!("{name}: next at {}", output::utc(next.0)),
                    || json!({"name": name, "next_ms": next}),
                )?;
                Ok(ExitCode::SUCCESS)
            }
            Self::List => list(client, output).await,
            Self::Remove { names } => remove(client, &names, output).await,
        }
    }
}

/// The task: the argument itself, standard input, or the contents of a file.
fn read_task(task: &str) -> anyhow::Result<String> {
    if task.trim_start().starts_with('{') {
        return Ok(task.to_owned());
    }
    if task == "-" {
        return std::io::read_to_string(std::io::stdin()).context("standard input cannot be read");
    }
    std::fs::read_to_string(task).with_context(|| format!("the task {task:?}: use a file, - or a JSON object"))
}

async fn list(client: &Client, output: Output) -> anyhow::Result<ExitCode> {
    let schedules = client.schedules().await?;
    if schedules.is_empty() {
        output.note(|| format!("no schedules in queue {}: add one with `redial schedule add`", client.queue().name()));
    }
    for schedule in &schedules {
        output.print(|| to_text(schedule), || to_json(schedule))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(schedule: &Schedule) -> Value {
    let Schedule { name, when, next, task } = schedule;
    json!({
        "name": name, "cron": when.cron(), "tz": when.tz().unwrap_or("UTC"), "next_ms": next,
        "task": redact::task(task.as_bytes()),
    })
}

fn to_text(schedule: &Schedule) -> String {
    let Schedule { name, when, next, .. } = schedule;
    let next = next.map_or_else(|| "never fires again".to_owned(), |at| format!("next at {}", output::utc(at.0)));
    let task = redact::task(schedule.task.as_bytes()).unwrap_or_default();
    let url = output::escaped(task["url"].as_str().unwrap_or_default());
    format!("{}  {when}  {next}  {url}", output::escaped(name))
}

async fn remove(client: &Client, names: &[String], output: Output) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let removed = client.unschedule(name).await?;
        if output == Output::Json || removed {
            output.print(|| format!("{name}: removed"), || json!({"name": name, "removed": removed}))?;
        }
        if !removed {
            output::complain(&format!("{name}: no such schedule in queue {}", client.queue().name()));
            code = ExitCode::from(super::NOT_FOUND);
        }
    }
    Ok(code)
}
