//! `redial schedule`

use std::process::ExitCode;

use anyhow::Context as _;
use redial::Producer;
use redial_core::schedule::Schedule;
use serde_json::{Value, json};

use crate::{output, redact};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Push a task at each time of a cron expression, once by the whole fleet. In place of a schedule of this name; prints when
    /// it fires next.
    Add {
        /// Its name. The task of each firing has the id NAME@TIME.
        name: String,
        /// When: minute, hour, day of the month, month, day of the week, as in '30 6 * * 1-5'; seconds may stand before them; or
        /// @hourly, @daily, ...
        cron: String,
        /// The task: a file, - for standard input, or JSON.
        task: String,
        /// By which clock, as in Europe/Berlin; UTC unless said.
        #[arg(long)]
        tz: Option<String>,
    },
    /// List schedules, and when each fires next.
    List,
    /// Take schedules away; exit code 3 when there is none of a name.
    Remove {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Command {
    pub async fn run(self, producer: &Producer, as_json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::Add { name, cron, task, tz } => {
                let next = producer.schedule(&name, &cron, tz.as_deref(), &read(&task)?).await?;
                let text = || format!("{name}: next at {}", output::utc(next.0));
                output::line(&if as_json { json!({"name": name, "next_ms": next}).to_string() } else { text() })?;
                Ok(ExitCode::SUCCESS)
            }
            Self::List => list(producer, as_json).await,
            Self::Remove { names } => remove(producer, &names, as_json).await,
        }
    }
}

/// The task as it was named: itself, standard input, or a file.
fn read(task: &str) -> anyhow::Result<String> {
    if task.trim_start().starts_with('{') {
        return Ok(task.to_owned());
    }
    if task == "-" {
        return std::io::read_to_string(std::io::stdin()).context("standard input can't be read");
    }
    std::fs::read_to_string(task).with_context(|| format!("the task {task:?}: give a file, - or a JSON object"))
}

async fn list(producer: &Producer, as_json: bool) -> anyhow::Result<ExitCode> {
    let schedules = producer.schedules().await?;
    if schedules.is_empty() && !as_json {
        output::complain(&format!(
            "no schedules in queue {}: `redial schedule add` makes one",
            producer.queue().name()
        ));
    }
    for schedule in &schedules {
        output::line(&if as_json { object(schedule).to_string() } else { text(schedule) })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn object(schedule: &Schedule) -> Value {
    let Schedule { name, when, next, task } = schedule;
    json!({
        "name": name, "cron": when.cron(), "tz": when.tz().unwrap_or("UTC"), "next_ms": next,
        "task": redact::task(task.as_bytes()),
    })
}

fn text(schedule: &Schedule) -> String {
    let Schedule { name, when, next, .. } = schedule;
    let next = next.map_or_else(|| "never again".to_owned(), |at| format!("next at {}", output::utc(at.0)));
    let task = redact::task(schedule.task.as_bytes()).unwrap_or_default();
    format!("{name}  {when}  {next}  {}", task["url"].as_str().unwrap_or_default())
}

async fn remove(producer: &Producer, names: &[String], as_json: bool) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let removed = producer.unschedule(name).await?;
        if as_json {
            output::line(&json!({"name": name, "removed": removed}).to_string())?;
        } else if removed {
            output::line(&format!("{name}: removed"))?;
        }
        if !removed {
            output::complain(&format!("{name}: no such schedule in queue {}", producer.queue().name()));
            code = ExitCode::from(crate::NOT_THERE);
        }
    }
    Ok(code)
}
