//! The tasks that the end of a task brings: the delivery of its result, and the next one of a chain. They are pushed in the step
//! that writes the result, so that neither is ever without the other.

use serde_json::json;
use url::Url;

use super::task::{RESULT_TTL, Task, TaskError};
use super::then;
use crate::{Status, TaskId, TaskResult};

/// What follows on a task with this result.
pub fn follow_ups(task: &Task, result: &TaskResult) -> Vec<String> {
    let Some(id) = &result.id else { return Vec::new() };
    let delivery = task.callback_url.as_ref().map(|url| delivery(url, id, task.result_ttl, result));
    let then = task.then.as_deref().filter(|_| result.status == Status::Ok);
    delivery.into_iter().chain(then.map(|then| then::fill(then, id, result))).collect()
}

/// What follows on what is no task.
pub fn follow_ups_of_invalid(refusal: &TaskError, result: &TaskResult) -> Vec<String> {
    let sender = (refusal.sender.callback_url.as_ref(), &result.id);
    if let (Some(url), Some(id)) = sender { vec![delivery(url, id, RESULT_TTL, result)] } else { Vec::new() }
}

/// A delivery names the result instead of holding it: that may be larger than a task, and is signed at each attempt, by a worker.
fn delivery(url: &Url, id: &TaskId, result_ttl: std::time::Duration, result: &TaskResult) -> String {
    let own = follow_up_id(id, "callback");
    json!({
        "id": own,
        "url": url.as_str(),
        "callback_of": id,
        "enqueued_at_ms": result.finished_at_ms,
        // Beyond it there is nothing to deliver.
        "ttl_ms": u64::try_from(result_ttl.as_millis()).unwrap_or(u64::MAX),
        // A receiver that is being deployed is away for minutes: some thirteen of them, by the cap.
        "retry": {"max_attempts": 10, "base_ms": 1_000, "cap_ms": 300_000, "jitter": "equal"},
    })
    .to_string()
}

/// The id of a task that follows, where it has none of its own.
pub(super) fn follow_up_id(id: &TaskId, what: &str) -> TaskId {
    TaskId::new(&format!("{id}.{what}")).unwrap_or_else(|_| TaskId::random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMs;

    fn result(id: &str, status: Status) -> Result<TaskResult, String> {
        Ok(TaskResult::new(Some(TaskId::new(id)?), status, UnixMs(7)))
    }

    #[test]
    fn a_delivery_is_a_task_that_names_the_result() -> Result<(), String> {
        let refused = |refusal: Box<TaskError>| refusal.error;
        let task = Task::parse(br#"{"url":"http://h/","callback_url":"https://me/hook"}"#, 1_000).map_err(refused)?;
        for status in [Status::Ok, Status::Dead] {
            let next = follow_ups(&task, &result("a", status)?);
            let delivery = Task::parse(next[0].as_bytes(), 1_000).map_err(refused)?;
            assert_eq!((next.len(), delivery.url.as_str()), (1, "https://me/hook"));
            assert_eq!(delivery.id.map(|id| id.to_string()), Some("a.callback".into()));
            assert_eq!(delivery.callback_of.map(|id| id.to_string()), Some("a".into()));
            assert_eq!((delivery.method, delivery.callback_url), (http::Method::POST, None));
        }
        let long = follow_ups(&task, &result(&"x".repeat(200), Status::Ok)?);
        assert!(Task::parse(long[0].as_bytes(), 2_000).is_ok(), "an id that leaves no room gets another");
        Ok(())
    }
}
