//! `redial list`

use std::process::ExitCode;

use redial_core::Queue;
use redial_core::consumer::WaitReason;
use redial_core::queue::list::{ListedTask, LiveState};
use redial_core::shown::{json, redact};
use serde_json::Value;

use crate::output::{self, Output};

/// List calls that have not ended: their ids, what they wait for, and until when. Credentials are redacted.
///
/// Waiting calls are those that no worker has claimed yet, in the order in which they will be claimed. Scheduled ones wait for a retry or
/// a delay. Parked ones wait for a limit, for an upstream, or for the answer of an identical call. Active ones are held by a worker.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The state of the calls.
    #[arg(value_enum)]
    state: State,
    /// How many calls to pass over, to see the next page.
    #[arg(long, value_name = "CALLS", default_value_t = 0)]
    skip: usize,
    /// The maximum number to list.
    #[arg(long, value_name = "CALLS", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    Waiting,
    Scheduled,
    Parked,
    Active,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scheduled => "scheduled",
            Self::Parked => "parked",
            Self::Active => "active",
        }
    }

    fn live_state(self) -> LiveState {
        match self {
            Self::Waiting => LiveState::Waiting,
            Self::Scheduled => LiveState::Scheduled,
            Self::Parked => LiveState::Parked,
            Self::Active => LiveState::Active,
        }
    }
}

/// How many tasks are read before they are printed.
const PAGE: usize = 100;

impl ListArgs {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let mut shown = 0;
        while shown < self.limit {
            let most = PAGE.min(self.limit - shown);
            let page = queue.list(self.state.live_state(), self.skip + shown, most).await?;
            for listed in &page {
                output.print(|| to_text(listed), || json::listed_task(listed, self.state.name()))?;
            }
            shown += page.len();
            if page.len() < most {
                break;
            }
        }
        if shown == 0 {
            output.note(|| format!("no calls are {} in queue {}", self.state.name(), queue.name()));
        } else if shown == self.limit {
            output.note(|| format!("there may be more: --skip {}", self.skip + shown));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn to_text(listed: &ListedTask) -> String {
    let task = redact::task(&listed.raw).unwrap_or_default();
    let text = |field: &str| output::escaped(task[field].as_str().unwrap_or_default());
    let url = if task["url"].is_string() { text("url") } else { "(not a task)".to_owned() };
    let mut words = vec![id(listed, &task), url];
    if let Some(why) = why(listed) {
        words.push(why);
    }
    words.join("  ")
}

/// The task's id: the producer's, or the one that its result will have. A call that no worker has seen may have none yet.
fn id(listed: &ListedTask, task: &Value) -> String {
    match task["id"].as_str() {
        Some(id) => output::escaped(id),
        None => listed.derived_id().map_or_else(|| "(no id yet)".to_owned(), |id| id.to_string()),
    }
}

/// What a task waits for, until when, and what happened before.
fn why(listed: &ListedTask) -> Option<String> {
    let attempts = listed.header.as_ref().map_or(&[][..], |header| &header.state.attempts[..]);
    let mut parts = Vec::new();
    if let Some(list) = &listed.waits_for {
        let name = output::escaped(&list.name);
        parts.push(match list.reason {
            WaitReason::Limit => format!("waits for the limit {name} (`redial limits show {name}`)"),
            WaitReason::Breaker => format!("waits for {name}, which is down (`redial breakers`)"),
            WaitReason::InFlight => {
                format!("waits until fewer calls are in flight to {name} (`max_in_flight` in docs/upstreams.md)")
            }
            WaitReason::Memo => "waits for another call that is the same".to_owned(),
        });
    }
    if let Some(due) = listed.due {
        parts.push(format!("due {}", output::utc(due.0)));
    }
    if let Some(worker) = &listed.worker {
        parts.push(format!("held by worker {worker}"));
    }
    if let Some(last) = attempts.last() {
        let error = output::escaped(last.error.as_deref().unwrap_or("no error"));
        parts.push(format!("attempt {} ended with: {error}", attempts.len()));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
