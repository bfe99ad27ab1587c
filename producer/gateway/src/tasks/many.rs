//! Several tasks in one request: a JSON array, or one task per line.

use std::collections::HashMap;
use std::time::Duration;

use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use redial::Client;
use redial_core::{QueueName, TaskId};
use serde_json::value::{RawValue, to_raw_value};

use super::{json_response, location, pending};
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::submission::{Sender, Submission};
use crate::waiting::deadline;

/// The most tasks in one request.
const MAX_TASKS: usize = 1_000;
/// The most bytes of results in one response. Whoever waits for more gets where the others are.
const MAX_RESULT_BYTES: usize = 32 << 20;

/// Whether a body has several tasks.
pub(super) fn is_many(headers: &HeaderMap, text: &str) -> bool {
    is_lines(headers) || text.trim_start().starts_with('[')
}

fn is_lines(headers: &HeaderMap) -> bool {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    let names = ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
    essence.is_some_and(|essence| names.contains(&essence.trim().to_ascii_lowercase().as_str()))
}

/// The tasks of a body, all of them valid.
///
/// # Errors
/// One is invalid, or there are too many.
pub(super) fn submissions(
    headers: &HeaderMap,
    text: &str,
    key: Option<&str>,
    sender: Sender<'_>,
) -> Result<Vec<Submission>, Problem> {
    let tasks: Vec<&str> = if is_lines(headers) {
        text.lines().filter(|line| !line.trim().is_empty()).collect()
    } else {
        let array: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|error| Problem::invalid(format!("the body is not a JSON array of tasks: {error}")))?;
        array.into_iter().map(RawValue::get).collect()
    };
    if tasks.is_empty() {
        return Err(Problem::invalid("the body has no tasks"));
    }
    if tasks.len() > MAX_TASKS {
        let detail = format!("the body has {} tasks: send at most {MAX_TASKS} at a time", tasks.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_tasks", detail));
    }
    let submission = |(index, raw): (usize, &str)| {
        let key = key.map(|key| format!("{key}.{index}"));
        sender.submission(raw, key.as_deref()).map_err(|problem| problem.of_task(index))
    };
    tasks.into_iter().enumerate().map(submission).collect()
}

/// Pushes tasks, and waits for their results if that is asked.
///
/// # Errors
/// Redis is away, or a task has the key of another one. The first tasks may be on the queue already.
pub(super) async fn create(
    gateway: &Gateway,
    client: &Client,
    queue: &QueueName,
    tasks: Vec<Submission>,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    let _place = wait.map(|_| gateway.place()).transpose()?;
    for (index, task) in tasks.iter().enumerate() {
        gateway.push(client, task).await.map_err(|problem| problem.of_task(index))?;
    }
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id().clone()).collect();
    drop(tasks);
    let found = match wait {
        Some(wait) => results(gateway, client, &ids, wait.min(gateway.config.max_wait)).await?,
        None => HashMap::new(),
    };
    let is_complete = wait.is_some() && ids.iter().all(|id| found.contains_key(id));
    let entry = |id: &TaskId| match found.get(id) {
        Some(result) => Some(result.clone()),
        // It cannot fail: it is JSON already.
        None => to_raw_value(&pending(queue, id, &location(&gateway.config, queue, id))).ok(),
    };
    let entries: Vec<Box<RawValue>> = ids.iter().filter_map(entry).collect();
    let status = if is_complete { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json_response(status, serde_json::to_string(&entries).unwrap_or_default()))
}

/// The results that arrive in time, and that fit into a response. When the gateway is about to end, those that have arrived.
async fn results(
    gateway: &Gateway,
    client: &Client,
    ids: &[TaskId],
    wait: Duration,
) -> Result<HashMap<TaskId, Box<RawValue>>, Problem> {
    let until = deadline(wait);
    let mut arriving = gateway.patiently(|| client.wait_all(ids.iter().cloned())).await?;
    let (mut found, mut bytes) = (HashMap::new(), 0);
    while let Ok(Some(completed)) = gateway.next_result(&mut arriving, until).await {
        bytes += completed.json.len();
        if bytes > MAX_RESULT_BYTES {
            break;
        }
        if let Ok(result) = RawValue::from_string(completed.json) {
            found.insert(completed.id, result);
        }
    }
    Ok(found)
}
