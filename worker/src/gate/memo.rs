//! A call that was made already, or is being made, is not made again: the task takes that answer, or waits for it.

use std::time::Duration;

use redial_core::Reason;
use redial_core::memo::{LeadDecision, MemoKey};

use super::Verdict;
use crate::job::Job;
use crate::leader;
use crate::metrics::MemoEvent;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

/// The memos that a task asks for. Most ask for none, and the credentials that the worker adds need not be looked up.
pub(super) fn keys(worker: &Worker, job: &Job) -> Vec<MemoKey> {
    if job.task.cache_ttl.is_none() && job.task.idempotency_key.is_none() {
        return Vec::new();
    }
    MemoKey::of(&job.task, &worker.config.upstreams.headers_for(&job.task))
}

/// For a task that was in a worker's hands before: what came of it there. Comes before all that could end it otherwise: its
/// call may have been answered, and only its worker died.
pub(super) async fn recall(worker: &Worker, lane: &Lane, job: &mut Job, keys: &[MemoKey]) -> Option<Verdict> {
    for key in keys {
        let standing = persist(worker, lane, "look", || {
            lane.memos.recheck(key, job.delivery(lane.consumer.queue().name()), job.max_age(key.purpose))
        })
        .await;
        match standing {
            Some(LeadDecision::Answer(kept)) => return Some(Verdict::Answered(kept, key.purpose)),
            Some(LeadDecision::Lead) => job.leads.push(key.clone()),
            Some(_) => {}
            None => return Some(Verdict::Lost),
        }
    }
    None
}

/// Asks the memos of a task in turn. One that this task leads it has to settle.
pub(super) async fn check(worker: &Worker, lane: &Lane, job: &mut Job, keys: Vec<MemoKey>) -> Option<Verdict> {
    for key in keys {
        let event = |event| worker.metrics.memo(&lane.name, key.purpose, event);
        let standing = leader::lead(worker, lane, job, &key, Duration::ZERO).await;
        match standing {
            Some(LeadDecision::Lead) if job.leads.contains(&key) => {}
            Some(LeadDecision::Lead) => {
                event(MemoEvent::Miss);
                job.leads.push(key);
            }
            Some(LeadDecision::Answer(kept)) => {
                event(MemoEvent::Hit);
                return Some(Verdict::Answered(kept, key.purpose));
            }
            Some(LeadDecision::Follow | LeadDecision::Free) => return Some(Verdict::Follow(key)),
            Some(LeadDecision::Mismatch) => {
                event(MemoEvent::Mismatch);
                return Some(Verdict::Reject(Reason::IdempotencyMismatch, mismatch(job)));
            }
            Some(LeadDecision::Unknown) => {
                return Some(Verdict::Reject(Reason::OutcomeUnknown, leader::UNKNOWN.into()));
            }
            None => return Some(Verdict::Lost),
        }
    }
    None
}

fn mismatch(job: &Job) -> String {
    let key = job.task.idempotency_key.as_deref().unwrap_or_default();
    format!(
        "the idempotency key {key:?} stands for another call (method, URL or body differ): use a new key for a new call"
    )
}
