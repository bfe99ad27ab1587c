//! Ends stored tasks whose deadline has passed: those that wait for a retry, a delay, a limit, a leader or an upstream. They need no
//! slot, so that they end on time also while all slots are in use.

use redial_core::consumer::Completion;
use redial_core::memo::MemoKey;
use redial_core::protocol::id::Token;
use redial_core::queue::entry::Entry;
use redial_core::{Error, ErrorRecovery, Reason, Status, TaskResult};

use super::events;
use super::gate::expiry;
use super::heavy;
use super::job::Job;
use super::refused::{Place, RefusedEnding};
use super::settle::Settler;
use super::stream;
use super::traces;
use super::types::Refusal;
use crate::limit::budget::WAITED_TOO_LONG;
use crate::memo;
use crate::queue::completer::wake_for_delivery;
use crate::queue::queue_worker::QueueWorker;

/// A task that ends, with its result.
type Ended = (Job, TaskResult);

/// Ends these tasks. Those that are no tasks any more under the present settings, and suspects of a crash, are claimed like any other, and
/// end there. What fails is left for a later check.
pub async fn expire(worker: &QueueWorker, entries: Vec<Entry>, unreadable: Vec<Token>) {
    let (mut dead, mut answered) = (Vec::new(), Vec::new());
    let mut claimable = unreadable;
    for entry in entries {
        let serial = entry.token.clone();
        if entry.header.crashes > 0 {
            claimable.push(serial);
            continue;
        }
        let config = &worker.shared.config;
        let Ok(job) = heavy::work(entry.raw.len(), || Job::open(entry, worker.queue_name(), config)).await else {
            claimable.push(serial);
            continue;
        };
        let Some(ended) = end(worker, job).await else { continue };
        match ended.1.status {
            Status::Ok => answered.push(ended),
            Status::Dead => dead.push(ended),
        }
    }
    bury(worker, dead).await;
    finish(worker, answered).await;
    for serial in claimable {
        if worker.redis_queue().make_due(&serial).await.is_ok() {
            worker.queue.wakeups.wake();
        }
    }
}

/// The result of a task whose deadline has passed. If it uses a memo, that may have its answer; and if it leads there, the lead ends.
async fn end(worker: &QueueWorker, job: Job) -> Option<Ended> {
    let now = worker.queue.clock.now();
    let has_expired = job.task.deadline(job.header.first_seen).is_some_and(|deadline| deadline <= now);
    let (reason, error) = match job.header.state.waits_until {
        Some(until) if until <= now && !has_expired => (Reason::OverBudget, WAITED_TOO_LONG.to_owned()),
        _ => (Reason::Expired, expiry::error(&job, now)),
    };
    let expired = job.dead(reason, error, now, None);
    let keys = memo::gate::keys(worker, &job).await;
    if keys.is_empty() {
        return Some((job, expired));
    }
    Box::pin(end_with_memos(worker, job, &keys, expired)).await
}

async fn end_with_memos(worker: &QueueWorker, job: Job, keys: &[MemoKey], expired: TaskResult) -> Option<Ended> {
    let mut leads = Vec::new();
    let result = match memo::gate::recall(worker, &job, keys, &mut leads).await {
        Ok(()) => expired,
        Err(Refusal::Answered(kept, purpose)) => job.result_from(&kept, purpose, worker.queue.clock.now()),
        Err(_) => return None,
    };
    let result = Settler::new(worker).settle_leads(&job, &leads, result).await;
    Some((job, result))
}

async fn bury(worker: &QueueWorker, dead: Vec<Ended>) {
    let endings: Vec<(String, Completion)> = dead
        .iter()
        .map(|(job, result)| {
            let added = worker.shared.config.upstreams.current().identity_for(&job.task);
            (job.dead_letter_header(result, &added), job.completion(result))
        })
        .collect();
    let letters: Vec<_> =
        endings.iter().map(|(letter, completion)| (&completion.token, letter.as_str(), Some(completion))).collect();
    let queue = worker.redis_queue();
    let buried = each_alone_if_refused(&letters, |some| queue.bury_stored(some)).await;
    for ((ended, (_, completion)), buried) in dead.iter().zip(&endings).zip(buried) {
        report(worker, ended, completion, buried).await;
    }
}

async fn finish(worker: &QueueWorker, mut answered: Vec<Ended>) {
    for (job, result) in &mut answered {
        stream::append_kept(worker, Place::Stored(worker.redis_queue()), job, result).await;
    }
    let completions: Vec<Completion> = answered.iter().map(|(job, result)| job.completion(result)).collect();
    let queue = worker.redis_queue();
    let finished = each_alone_if_refused(&completions, |some| queue.finish_stored(some)).await;
    for ((ended, completion), finished) in answered.iter().zip(&completions).zip(finished) {
        report(worker, ended, completion, finished).await;
    }
}

/// Reports what became of a task. One whose end Redis refuses for good ends with as much as Redis accepts.
async fn report(worker: &QueueWorker, (job, result): &Ended, completion: &Completion, stored: Result<bool, Error>) {
    if matches!(stored, Ok(true)) {
        wake_for_delivery(&worker.shared, worker.queue_name(), completion);
    }
    match stored {
        Ok(true) if result.status == Status::Ok => {
            worker.shared.metrics.queues.completed(worker.name());
            worker.queue.statistics.completed(result.source);
            events::done(&worker.queue.events, result);
            traces::task_ended(worker, job, result);
        }
        Ok(true) => {
            traces::task_ended(worker, job, result);
            Settler::new(worker).report_dead(result, traces::trace_id(worker, job).as_deref());
        }
        Ok(false) => {}
        Err(error) if error.recovery() == ErrorRecovery::Never => {
            let added = worker.shared.config.upstreams.current().identity_for(&job.task);
            let memo = MemoKey::idempotency(&job.task, &added).map(|key| key.hash);
            let refused = RefusedEnding {
                token: &job.token,
                result: result.clone(),
                serial: &job.header.serial,
                memo: memo.as_deref(),
                completion: Some(completion),
                error: &error,
            };
            if let Ok(Some(result)) = refused.bury(&worker.queue.retry, Place::Stored(worker.redis_queue())).await {
                traces::task_ended(worker, job, &result);
                Settler::new(worker).report_dead(&result, traces::trace_id(worker, job).as_deref());
            }
        }
        Err(error) => {
            tracing::debug!(%error, "could not end a task whose deadline has passed; a later check tries again");
        }
    }
}

/// Sends all of these at once; if Redis refuses that, each on its own, so that one that cannot be stored does not stop the others.
async fn each_alone_if_refused<'a, T, F>(all: &'a [T], mut store: impl FnMut(&'a [T]) -> F) -> Vec<Result<bool, Error>>
where
    F: Future<Output = Result<Vec<bool>, Error>>,
{
    if all.is_empty() {
        return Vec::new();
    }
    if let Ok(stored) = store(all).await {
        return stored.into_iter().map(Ok).collect();
    }
    let mut each = Vec::with_capacity(all.len());
    for one in all.chunks(1) {
        each.push(store(one).await.map(|stored| stored.contains(&true)));
    }
    each
}
