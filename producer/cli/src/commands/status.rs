//! `redial status`

use std::process::ExitCode;

use redial::{Queue, Search, TaskId, TaskLocation};
use serde_json::{Value, json};

use crate::output::{self, Output, Tint};

/// Show where calls are: waiting, scheduled, parked, active, complete or dead.
///
/// Tasks in each state are searched, because there is no index of ids. If an id was used more than once, the call that has not ended is
/// shown, and otherwise the one that ended last.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The ids of the calls.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// How many tasks to search in each state, in the order in which they will be claimed.
    #[arg(long, value_name = "TASKS", default_value_t = 10_000)]
    search_limit: usize,
}

impl StatusArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for id in &self.ids {
            let id = TaskId::new(id)?;
            let search = queue.find(&id, self.search_limit).await?;
            if search.location.is_none() {
                code = ExitCode::from(super::NOT_FOUND);
            }
            match (&search.location, output) {
                (_, Output::Json) => output::json_line(&to_json(&id, &search).to_string())?,
                (Some(location), Output::Text) => output::line(&format!("{id}  {}", describe(location)))?,
                (None, Output::Text) => {
                    output::complain(&format!("{id}: not found in queue {}: {}", queue.name(), why_not_found(&search)));
                }
            }
        }
        Ok(code)
    }
}

/// Why a search may have missed a task.
pub fn why_not_found(search: &Search) -> String {
    if search.cut_short.is_empty() {
        return "never pushed there, or its result expired".into();
    }
    let (seen, states) = (search.looked_at, search.cut_short.join(", "));
    format!("searched {seen} tasks, and there are more that are {states}: use a larger --search-limit")
}

/// A task's state and its details, for people.
pub fn describe(location: &TaskLocation) -> String {
    let details = match location {
        TaskLocation::Waiting { before } => format!("{before} before it"),
        TaskLocation::Scheduled { due } => format!("due {}", output::utc(due.0)),
        TaskLocation::Parked => {
            "waits for another task that makes the same call, or for an upstream that is down (`redial breakers`)"
                .into()
        }
        TaskLocation::Active { worker } => format!("held by worker {worker}"),
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
            let error = output::escaped(result.error.as_deref().unwrap_or_default());
            return format!("{}  {reason}: {error}", output::paint("dead", Tint::Bad));
        }
    };
    format!("{}  {details}", location.state())
}

fn to_json(id: &TaskId, search: &Search) -> Value {
    let mut json = match &search.location {
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
    json["id"] = json!(id);
    json["looked_at"] = json!(search.looked_at);
    json
}
