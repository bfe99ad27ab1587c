//! `redial status`

use std::process::ExitCode;

use redial_core::queue::find::{Search, TaskLocation};
use redial_core::{Queue, TaskId};
use serde_json::{Value, json};

use crate::output::{self, Tint};

/// Say where calls are: waiting, active, scheduled, complete, dead.
///
/// One that has its result is found at once; for another the queue's places are looked through, as there
/// is no index: what waits, is scheduled, follows or is in hand, and the dead letters, up to --most of each.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// The most tasks to look at in each place, those first that are taken first.
    #[arg(long, default_value_t = 10_000)]
    most: usize,
}

impl Status {
    pub async fn run(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for id in &self.ids {
            let id = TaskId::new(id).map_err(anyhow::Error::msg)?;
            let search = queue.find(&id, self.most).await?;
            if search.place.is_none() {
                code = ExitCode::from(crate::NOT_THERE);
            }
            match (&search.place, as_json) {
                (_, true) => output::line(&to_json(&id, &search).to_string())?,
                (Some(place), false) => output::line(&format!("{id}  {}", to_text(place)))?,
                (None, false) => {
                    output::complain(&format!("{id}: not found in queue {}: {}", queue.name(), why(&search)));
                }
            }
        }
        Ok(code)
    }
}

pub fn why(search: &Search) -> String {
    if search.cut_short.is_empty() {
        return "never pushed there, or the time of its result is over".into();
    }
    let (seen, places) = (search.looked_at, search.cut_short.join(", "));
    format!("looked at {seen} tasks, and there are more that are {places}: give a larger --most")
}

/// The word for where a task is.
pub fn state(place: &TaskLocation) -> &'static str {
    match place {
        TaskLocation::Waiting { .. } => "waiting",
        TaskLocation::Scheduled { .. } => "scheduled",
        TaskLocation::Parked => "parked",
        TaskLocation::Active { .. } => "active",
        TaskLocation::Complete(_) => "complete",
        TaskLocation::Dead(_) => "dead",
    }
}

pub fn to_text(place: &TaskLocation) -> String {
    let more = match place {
        TaskLocation::Waiting { before } => format!("{before} before it"),
        TaskLocation::Scheduled { due } => format!("due {}", output::utc(due.0)),
        TaskLocation::Parked => "waits in line: for the answer of another task that makes the same call, or for an upstream that is down (`redial breakers`)".into(),
        TaskLocation::Active { worker } => format!("in the hands of worker {worker}"),
        TaskLocation::Complete(result) => {
            let at = output::utc(result.finished_at_ms.0);
            return format!(
                "{}  finished {at}, {} attempts",
                output::paint("complete", Tint::Good),
                result.attempts.len()
            );
        }
        TaskLocation::Dead(result) => {
            let reason = result.reason.map_or("unknown", |reason| reason.as_str());
            let error = result.error.as_deref().unwrap_or_default();
            return format!("{}  {reason}: {error}", output::paint("dead", Tint::Bad));
        }
    };
    format!("{}  {more}", state(place))
}

fn to_json(id: &TaskId, search: &Search) -> Value {
    let mut said = match &search.place {
        None => json!({"state": null, "cut_short": search.cut_short}),
        Some(TaskLocation::Waiting { before }) => json!({"state": "waiting", "before": before}),
        Some(TaskLocation::Scheduled { due }) => json!({"state": "scheduled", "due_ms": due}),
        Some(TaskLocation::Parked) => json!({"state": "parked"}),
        Some(TaskLocation::Active { worker }) => json!({"state": "active", "worker": worker.as_str()}),
        Some(TaskLocation::Complete(result)) => json!({
            "state": "complete", "http_status": result.http_status, "attempts": result.attempts.len(),
            "finished_at_ms": result.finished_at_ms,
        }),
        Some(TaskLocation::Dead(result)) => json!({
            "state": "dead", "http_status": result.http_status, "attempts": result.attempts.len(),
            "finished_at_ms": result.finished_at_ms, "reason": result.reason, "error": result.error,
        }),
    };
    said["id"] = json!(id);
    said["looked_at"] = json!(search.looked_at);
    said
}
