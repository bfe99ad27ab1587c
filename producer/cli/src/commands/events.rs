//! `redial events`

use std::process::ExitCode;
use std::time::Duration;

use redial::{Client, TaskEvent, TaskEventKind, TaskId, WaitCause};
use serde_json::json;

use crate::output::{self, Output};

/// How many tasks in each state are searched for the one that is watched.
const SEARCH: usize = 1_000_000;

/// Print what happens to calls as it happens: queued, started, attempt_failed, waiting, done.
///
/// With an id, prints what has happened to that call and what happens until it is done. The exit code is 5 if the call is dead by then, and 3
/// if the call does not exist or does not finish in time. Without an id, prints the events of all calls in the queue until you stop the
/// command. A busy queue records only a sample of its calls (`events_per_s`).
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// The id of a call. Default: all calls of the queue.
    id: Option<String>,
    /// Begin with what was recorded since then, such as 10m or 1h.
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration, conflicts_with = "id")]
    since: Option<Duration>,
    /// How long to watch, in seconds. Default: forever.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

impl EventsArgs {
    pub async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        let patience = self.timeout.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()));
        let Some(id) = &self.id else {
            let watched = tokio::time::timeout(patience, of_queue(client, self.since, output)).await;
            return watched.unwrap_or(Ok(ExitCode::SUCCESS));
        };
        let id = TaskId::new(id)?;
        let watched = tokio::time::timeout(patience, of_task(client, &id, output)).await;
        watched.unwrap_or_else(|_| {
            output::complain(&format!("{id}: not done in time"));
            Ok(ExitCode::from(super::NOT_FOUND))
        })
    }
}

async fn of_task(client: &Client, id: &TaskId, output: Output) -> anyhow::Result<ExitCode> {
    let Some(mut events) = client.task_events(id, SEARCH).await? else {
        output::complain(&format!("{id}: not in queue {}, or its result has expired", client.queue().name()));
        return Ok(ExitCode::from(super::NOT_FOUND));
    };
    let mut is_dead = false;
    while let Some(event) = events.next().await {
        print(&event, output)?;
        is_dead = matches!(&event.kind, TaskEventKind::Done { status: redial::Status::Dead, .. });
    }
    Ok(super::exit_code(false, is_dead))
}

async fn of_queue(client: &Client, since: Option<Duration>, output: Output) -> anyhow::Result<ExitCode> {
    let mut events = client.events(client.queue().events_since(since).await?);
    loop {
        for event in events.next().await.events {
            print(&event, output)?;
        }
    }
}

fn print(event: &TaskEvent, output: Output) -> std::io::Result<()> {
    output.print(|| as_text(event), || json!(event))
}

fn as_text(event: &TaskEvent) -> String {
    let task = event.task.as_ref().map_or("(no id)", TaskId::as_str);
    let what = match &event.kind {
        TaskEventKind::Queued => String::new(),
        TaskEventKind::Started { attempt, host } => {
            let host = host.as_ref().map(|host| format!(": calls {host}")).unwrap_or_default();
            format!("attempt {attempt}{host}")
        }
        TaskEventKind::AttemptFailed { attempt, took_ms, error, .. } => {
            format!("attempt {attempt} after {took_ms} ms: {error}")
        }
        TaskEventKind::Waiting { cause, name, until_ms } => {
            let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let until = until_ms.map(|until| format!(" until {}", output::utc(until.0))).unwrap_or_default();
            format!("for {}{name}{until}", cause_as_text(*cause))
        }
        TaskEventKind::Done { status: redial::Status::Ok, source, .. } => match source {
            Some(redial::Source::Cache) => "ok, from the cache".to_owned(),
            Some(redial::Source::Shared) => "ok, from another call".to_owned(),
            Some(redial::Source::Idempotency) => "ok, the answer under its idempotency key".to_owned(),
            Some(redial::Source::Call) | None => "ok".to_owned(),
        },
        TaskEventKind::Done { reason, error, .. } => {
            let reason = reason.map_or("dead", |reason| reason.as_str());
            format!("dead, {reason}: {}", error.as_deref().unwrap_or_default())
        }
    };
    let line = format!("{}  {task}  {:<14}  {what}", output::utc_ms(event.at_ms.0), event.kind.name());
    output::escaped(line.trim_end())
}

fn cause_as_text(cause: WaitCause) -> &'static str {
    match cause {
        WaitCause::Time => "its time",
        WaitCause::Limit => "the limit",
        WaitCause::Upstream => "the upstream",
        WaitCause::Answer => "the answer to another call",
        WaitCause::Other => "a limit, an upstream or another call",
    }
}
