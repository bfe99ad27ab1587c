//! The tasks that a finished task leads to: the delivery of its result, and the next one of a chain. They are pushed in the step
//! that writes the result, so that neither ever exists without the other.

use serde_json::json;
use url::Url;

use super::task::then;
use super::task::{RESULT_TTL, Task, TaskError};
use crate::{Status, TaskId, TaskResult};

/// What a delivery begins with on its way to Redis, where it is stored apart from what producers push: see `lua/lib/follow_up.lua`.
const DELIVERY: &str = "delivery ";

/// Whether one of these is a delivery.
pub fn include_delivery(follow_ups: &[String]) -> bool {
    follow_ups.iter().any(|next| next.starts_with(DELIVERY))
}

/// The tasks that a task belongs to, and that belong to it, as far as the task tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskLinks {
    /// The task before it in a chain, or whose result it delivers.
    pub parent: Option<TaskId>,
    /// The next task of its chain, which is there once it succeeds.
    pub next: Option<TaskId>,
    /// The delivery of its result, which is there once it ends.
    pub delivery: Option<TaskId>,
}

impl TaskLinks {
    /// Reads them from the producer's bytes and the task's id.
    pub fn read(raw: &[u8], id: &TaskId) -> Self {
        let task: serde_json::Value = serde_json::from_slice(raw).unwrap_or_default();
        let named = |value: &serde_json::Value| value.as_str().and_then(|id| TaskId::new(id).ok());
        let before = id.as_str().strip_suffix(".then").and_then(|id| TaskId::new(id).ok());
        let next = || named(&task["then"]["id"]).unwrap_or_else(|| then::follow_up_id(id, "then"));
        Self {
            parent: named(&task["callback_of"]).or(before),
            next: task["then"].is_object().then(next),
            delivery: task["callback_url"].is_string().then(|| then::follow_up_id(id, "callback")),
        }
    }
}

/// The tasks that follow a task with this result, each of at most `max_bytes`.
pub fn follow_ups(task: &Task, result: &TaskResult, max_bytes: usize) -> Vec<String> {
    let Some(id) = &result.id else { return Vec::new() };
    let delivery =
        task.callback_url.as_ref().map(|url| delivery(url, id, task.tenant.as_deref(), task.result_ttl, result));
    let then = task.then.as_deref().filter(|_| result.status == Status::Ok);
    delivery
        .into_iter()
        .chain(then.map(|then| then::fill(then, id, task.tenant.as_deref(), result, max_bytes)))
        .collect()
}

/// The tasks that follow an invalid task: the delivery of its result, where both URL and id could be read.
pub fn follow_ups_of_invalid(error: &TaskError, result: &TaskResult) -> Vec<String> {
    let (Some(url), Some(id)) = (&error.return_address.callback_url, &result.id) else { return Vec::new() };
    vec![delivery(url, id, None, RESULT_TTL, result)]
}

/// A delivery refers to the result instead of containing it: the result may be larger than a task may be, and a worker signs it at
/// each attempt.
fn delivery(
    url: &Url,
    id: &TaskId,
    tenant: Option<&str>,
    result_ttl: std::time::Duration,
    result: &TaskResult,
) -> String {
    let task = json!({
        "id": then::follow_up_id(id, "callback"),
        "url": url.as_str(),
        "callback_of": id,
        "tenant": tenant,
        "enqueued_at_ms": result.finished_at_ms,
        // Then the result is gone, and with it what to deliver.
        "ttl_ms": u64::try_from(result_ttl.as_millis()).unwrap_or(u64::MAX),
        // A receiver that is being deployed may be away for minutes: this covers about thirteen.
        "retry": {"max_attempts": 10, "base_ms": 1_000, "cap_ms": 300_000, "jitter": "equal"},
    })
    .to_string();
    format!("{DELIVERY}{task}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMs;
    use crate::protocol::id::InvalidId;

    fn result(id: &str, status: Status) -> Result<TaskResult, InvalidId> {
        Ok(TaskResult::new(Some(TaskId::new(id)?), status, UnixMs(7)))
    }

    #[test]
    fn a_delivery_is_a_task_that_names_the_result() -> Result<(), Box<dyn std::error::Error>> {
        let task = Task::parse(br#"{"url":"http://h/","callback_url":"https://me/hook"}"#, 1_000)?;
        for status in [Status::Ok, Status::Dead] {
            let next = follow_ups(&task, &result("a", status)?, 1_000);
            let delivery = Task::parse(next[0].strip_prefix(DELIVERY).ok_or("a delivery")?.as_bytes(), 1_000)?;
            assert_eq!((next.len(), delivery.url.as_str()), (1, "https://me/hook"));
            assert_eq!(delivery.id.map(|id| id.to_string()), Some("a.callback".into()));
            assert_eq!(delivery.callback_of.map(|id| id.to_string()), Some("a".into()));
            assert_eq!((delivery.method, delivery.callback_url), (http::Method::POST, None));
        }
        let long = follow_ups(&task, &result(&"x".repeat(200), Status::Ok)?, 1_000);
        let long = long[0].strip_prefix(DELIVERY).ok_or("a delivery")?;
        assert!(Task::parse(long.as_bytes(), 2_000).is_ok(), "an id too long to extend is replaced");
        Ok(())
    }
}
