//! The checks before an attempt. The order is here; each check is a file of its own.

pub mod crashes;
mod delivery;
pub mod expiry;
mod reach;
mod schedule;
mod start_marker;
mod token;

use redial_core::memo::MemoKey;
use redial_core::queue::entry::StartMarker;

use super::job::Job;
use super::stream;
use super::types::{Admission, Refusal, Verdict};
use crate::limit::applied::AppliedLimit;
use crate::queue::queue_worker::QueueWorker;
use crate::{breaker, in_flight, limit, memo};
use reach::GateKeys;

/// Asks every gate in turn; the first refusal decides.
///
/// The gates change nothing of the job but what Redis keeps with the task, such as its start marker, and take its grant.
pub async fn pass(worker: &QueueWorker, job: &mut Job) -> Verdict {
    let mut leads = Vec::new();
    let keys = memo::gate::keys(worker, job).await;
    let limits = limit::gate::limits_for(&job.task, &worker.shared.config);
    // A redelivered task with a start marker has to be judged by it: it must not go back, which would lose the marker.
    let admitted = if job.header.started == StartMarker::Calling {
        admit(worker, job, keys, limits, &mut leads).await
    } else if let Some(gates) = GateKeys::of(worker, job, &keys, &limits) {
        let patience = tokio::time::timeout(reach::PATIENCE, gates.wait_until_away(worker));
        tokio::select! {
            biased;
            _ = patience => Err(reach::wait()),
            admitted = admit(worker, job, keys, limits, &mut leads) => admitted,
        }
    } else {
        let admitted = tokio::time::timeout(reach::PATIENCE, admit(worker, job, keys, limits, &mut leads)).await;
        admitted.unwrap_or_else(|_| Err(reach::wait()))
    };
    match admitted {
        Ok(admission) => Verdict::Pass(Admission { leads, ..admission }),
        Err(refusal) => Verdict::Refuse(refusal, leads),
    }
}

/// The order: checks that write to Redis come last, except for what must be known before a task is given up. The limits are the
/// very last, so that a task that is refused uses none of their rate.
async fn admit(
    worker: &QueueWorker,
    job: &mut Job,
    keys: Vec<MemoKey>,
    limits: Vec<AppliedLimit>,
    leads: &mut Vec<MemoKey>,
) -> Result<Admission, Refusal> {
    let now = worker.queue.clock.now();
    if !keys.is_empty() && job.is_redelivery() {
        Box::pin(memo::gate::recall(worker, job, &keys, leads)).await?;
    }
    start_marker::check(job)?;
    if job.stream.is_some() {
        Box::pin(stream::check(worker, job)).await?;
    }
    expiry::check(job, now)?;
    schedule::check(job, now)?;
    crashes::check(job)?;
    let mut admission = Admission { limits, ..Admission::default() };
    if !keys.is_empty() {
        Box::pin(memo::gate::check(worker, job, keys, leads)).await?;
    }
    if let Some(id) = &job.task.callback_of {
        admission.callback = Some(Box::new(Box::pin(delivery::prepare(worker, id, job.task.enqueued_at)).await?));
    }
    admission.call = in_flight::gate::check(worker, job)?;
    admission.permit = Box::pin(breaker::gate::check(worker, job)).await?;
    admission.token = Box::pin(token::check(worker, job, admission.permit.as_ref())).await?.map(Box::new);
    for round in 0.. {
        Box::pin(limit::gate::acquire(worker, job, &mut admission, round)).await?;
        if start_marker::needs_start_marker(job) {
            Box::pin(memo::gate::announce_call(worker, job, leads)).await?;
            Box::pin(start_marker::record_start(worker, job)).await?;
        }
        // A worker that was stopped meanwhile has missed the turn, and asks again.
        if limit::gate::start(&mut admission.limits, round) {
            break;
        }
    }
    Ok(admission)
}
