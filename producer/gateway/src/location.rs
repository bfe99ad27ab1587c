//! Where a task is that has no result yet.

use redial_core::queue::find::{Search, TaskLocation};
use redial_core::{QueueName, TaskId};
use serde_json::{Value, json};

/// A task's state and its details. A search that was cut short says so: the task may be anywhere.
pub(crate) fn describe(queue: &QueueName, id: &TaskId, search: &Search) -> Value {
    let mut json = match &search.location {
        None => json!({"state": "unknown", "more_tasks": search.cut_short}),
        Some(TaskLocation::Waiting { before }) => json!({"state": "waiting", "before": before}),
        Some(TaskLocation::Scheduled { due }) => json!({"state": "scheduled", "due_ms": due}),
        Some(TaskLocation::Active { worker }) => json!({"state": "active", "worker": worker.as_str()}),
        Some(other) => json!({"state": other.state()}),
    };
    json["id"] = json!(id);
    json["queue"] = json!(queue.as_str());
    json
}
