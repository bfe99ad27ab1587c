//! A call that was made already, or is being made, is not made again: the task takes its answer, or waits for it.

use std::time::Duration;

use redial_core::Reason;
use redial_core::memo::{LeadDecision, MemoKey, MemoPurpose};

use super::leader::{self, OUTCOME_UNKNOWN};
use crate::observe::metrics::MemoEvent;
use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use crate::task::heavy;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// The memos that a task uses. Most use none, and then the headers that the worker adds need not be looked up.
pub async fn keys(worker: &QueueWorker, job: &Job) -> Vec<MemoKey> {
    if job.task.cache_ttl.is_none() && job.task.idempotency_key.is_none() {
        return Vec::new();
    }
    // The body is part of the keys, in its canonical form.
    let bytes = job.task.body.as_ref().map_or(0, Vec::len);
    heavy::work(bytes, || MemoKey::of(&job.task, &worker.shared.config.upstreams.current().identity_for(&job.task)))
        .await
}

/// Finds out what an earlier delivery of the task achieved. Comes before every check that could end the task otherwise: its call
/// may have been answered before its worker died.
///
/// # Errors
/// The answer is there.
pub async fn recall(
    worker: &QueueWorker,
    job: &Job,
    keys: &[MemoKey],
    leads: &mut Vec<MemoKey>,
) -> Result<(), Refusal> {
    for key in keys {
        match recheck(worker, job, key).await {
            Ok(LeadDecision::Answer(kept)) => return Err(Refusal::Answered(kept, key.purpose)),
            Ok(LeadDecision::Lead) => leads.push(key.clone()),
            // If Redis refuses the memo, a later check says so, after those that must come before it.
            Ok(_) | Err(NotStored::Refused(_)) => {}
            Err(NotStored::Aborted) => return Err(Refusal::LeaseLost),
        }
    }
    Ok(())
}

/// Asks a memo on behalf of a task that may lead it already, or that was just parked behind its leader.
///
/// # Errors
/// The memo cannot be asked.
pub async fn recheck(worker: &QueueWorker, job: &Job, key: &MemoKey) -> Result<LeadDecision, NotStored> {
    let client = &worker.shared.memos;
    let delivery = job.delivery(worker.queue_name());
    client.ask(client.memos().recheck_request(key, delivery, job.max_age(key.purpose))).await
}

/// Asks the memos of a task in turn. Those that it leads are added to `leads`.
///
/// # Errors
/// A memo has the answer, another task makes the call, or the idempotency key forbids it.
pub async fn check(
    worker: &QueueWorker,
    job: &Job,
    keys: Vec<MemoKey>,
    leads: &mut Vec<MemoKey>,
) -> Result<(), Refusal> {
    for key in keys {
        let count = |event| worker.shared.metrics.memo(worker.name(), key.purpose, event);
        let asked = leader::lead(worker, job, &key, Duration::ZERO).await;
        match asked.map_err(|why| Refusal::without(memo_name(key.purpose), why))? {
            LeadDecision::Lead if leads.contains(&key) => {}
            LeadDecision::Lead => {
                count(MemoEvent::Miss);
                leads.push(key);
            }
            LeadDecision::Answer(kept) => {
                count(MemoEvent::Hit);
                return Err(Refusal::Answered(kept, key.purpose));
            }
            LeadDecision::Follow | LeadDecision::Free => return Err(Refusal::Follow(key)),
            LeadDecision::Mismatch => {
                count(MemoEvent::Mismatch);
                return Err(Refusal::Reject(Reason::IdempotencyMismatch, mismatch(job)));
            }
            LeadDecision::Unknown => return Err(Refusal::Reject(Reason::OutcomeUnknown, OUTCOME_UNKNOWN.into())),
        }
    }
    Ok(())
}

/// Tells the memos that a task leads that its call is about to be sent, if it may not be made twice.
///
/// # Errors
/// Another task leads by now, because this one was silent for too long, or there is an answer.
pub async fn announce_call(worker: &QueueWorker, job: &Job, leads: &mut Vec<MemoKey>) -> Result<(), Refusal> {
    let Some(at) = leads.iter().position(|key| leader::is_once(job, key)) else { return Ok(()) };
    let asked = leader::lead_call(worker, job, &leads[at]).await;
    let decision = asked.map_err(|why| Refusal::without(memo_name(leads[at].purpose), why))?;
    if matches!(decision, LeadDecision::Lead) {
        return Ok(());
    }
    let key = leads.remove(at);
    Err(match decision {
        LeadDecision::Answer(kept) => Refusal::Answered(kept, key.purpose),
        LeadDecision::Unknown => Refusal::Reject(Reason::OutcomeUnknown, OUTCOME_UNKNOWN.into()),
        LeadDecision::Mismatch => Refusal::Reject(Reason::IdempotencyMismatch, mismatch(job)),
        LeadDecision::Follow | LeadDecision::Free | LeadDecision::Lead => Refusal::Follow(key),
    })
}

fn memo_name(purpose: MemoPurpose) -> &'static str {
    match purpose {
        MemoPurpose::Idempotency => "the memo of its `idempotency_key`",
        MemoPurpose::Cache => "the memo that `cache_ttl_ms` asks for",
    }
}

fn mismatch(job: &Job) -> String {
    let key = job.task.idempotency_key.as_deref().unwrap_or_default();
    format!(
        "the idempotency key {key:?} belongs to another call (method, URL or body differ): use a new key for a new call"
    )
}
