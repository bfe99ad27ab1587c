//! A callback delivers a result: that result is its body, as long as Redis keeps it.

use redial_core::{Reason, TaskId, UnixMs};
use serde::Deserialize;

use crate::http::webhook;
use crate::queue::queue_worker::QueueWorker;
use crate::task::heavy;
use crate::task::types::{Callback, Refusal};

/// When a stored result was made.
#[derive(Deserialize)]
struct FinishedResult {
    finished_at_ms: UnixMs,
}

/// Reads the result of `id` and signs it. `finished_at` is that of the result which the delivery was made for: another task may have had
/// the same id since, and its result is for its own receiver.
///
/// # Errors
/// The result is no longer kept, or it is another one.
pub async fn prepare(worker: &QueueWorker, id: &TaskId, finished_at: Option<UnixMs>) -> Result<Callback, Refusal> {
    let read = || worker.redis_queue().result(id);
    let result = worker.queue.retry.retry("result", read).await;
    let result = result.map_err(|why| Refusal::without("the result that was to be delivered", why))?;
    let Some(result) = result else {
        let error = format!("there is no result of {id} to deliver any more: it is kept for `result_ttl_ms`");
        return Err(Refusal::Reject(Reason::Expired, error));
    };
    let read = heavy::work(result.len(), || serde_json::from_str(&result)).await;
    let kept = read.map_or(None, |kept: FinishedResult| Some(kept.finished_at_ms));
    if kept.is_some() && kept != finished_at {
        let error = format!(
            "the result of {id} was replaced by that of a later task with the same id, which has a delivery of its own"
        );
        return Err(Refusal::Reject(Reason::Expired, error));
    }
    let sign = || {
        let secrets = worker.shared.config.webhook_secrets.current();
        webhook::headers(&secrets, id, result.as_bytes(), kept.unwrap_or_default(), worker.queue.clock.now())
    };
    let mut headers = heavy::work(result.len(), sign).await;
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(Callback { headers, body: result.into_bytes() })
}
