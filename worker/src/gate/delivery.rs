//! The delivery of a result: the result is its body, as long as it is kept.

use redial_core::Reason;

use super::Verdict;
use crate::job::Job;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

/// Puts in the body of a delivery, and what signs it. `None`: it may go, or is no delivery.
pub(super) async fn check(worker: &Worker, lane: &Lane, job: &mut Job) -> Option<Verdict> {
    let of = job.task.callback_of.as_ref()?;
    let Some(result) = persist(worker, lane, "result", || lane.consumer.queue().result(of)).await else {
        return Some(Verdict::Lost);
    };
    let Some(result) = result else {
        let error = format!("there is no result of {of} to deliver any more: it is kept for `result_ttl_ms`");
        return Some(Verdict::Reject(Reason::Expired, error));
    };
    let finished_at = serde_json::from_str(&result).map(|result: redial_core::TaskResult| result.finished_at_ms);
    let signed =
        worker.config.webhooks.headers(of, result.as_bytes(), finished_at.unwrap_or_default(), lane.clock.now());
    job.task.headers.extend(signed);
    job.task.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    job.task.body = Some(result.into_bytes());
    None
}
