//! What stands before an attempt. The order is here; each check is a file.

mod breaker;
mod crashes;
mod delivery;
mod expiry;
mod limit;
mod memo;
mod schedule;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use redial_core::memo::{KeptAnswer, MemoKey, MemoPurpose};
use redial_core::{Reason, UnixMs};

use crate::job::Job;
use crate::worker::{Lane, Worker};

/// What a gate says. None of it is an error.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Not now: after `wait`, and not before a moment. Uses no attempt and holds no slot.
    Defer {
        /// From now.
        wait: Duration,
        /// By Redis's clock.
        not_before: UnixMs,
    },
    /// Not at all: here is the answer, from a memo for this purpose.
    Answered(Box<KeptAnswer>, MemoPurpose),
    /// Not this one: another task makes the call. It waits for that answer and holds no slot.
    Follow(MemoKey),
    /// The upstream is down: in line until it is back, or for this long at least.
    Down(Duration),
    /// Never.
    Reject(Reason, String),
    /// The lease was lost: the task is another worker's.
    Lost,
}

/// Asks every gate in turn; the first that does not pass decides. What writes to Redis comes last, but for what must be known
/// before a task is given up.
pub async fn pass(worker: &Arc<Worker>, lane: &Arc<Lane>, job: &mut Job) -> Verdict {
    let now = lane.clock.now();
    let keys = memo::keys(worker, job);
    if !keys.is_empty()
        && job.was_here_before()
        && let Some(verdict) = Box::pin(memo::recall(worker, lane, job, &keys)).await
    {
        return verdict;
    }
    let verdict = sending::check_sent(job)
        .or_else(|| expiry::check(job, now))
        .or_else(|| schedule::check(job, now))
        .or_else(|| crashes::check(worker, job));
    if let Some(verdict) = verdict {
        return verdict;
    }
    if !keys.is_empty()
        && let Some(verdict) = Box::pin(memo::check(worker, lane, job, keys)).await
    {
        return verdict;
    }
    if job.task.callback_of.is_some()
        && let Some(verdict) = Box::pin(delivery::check(worker, lane, job)).await
    {
        return verdict;
    }
    if let Some(verdict) = Box::pin(breaker::check(worker, lane, job)).await {
        return verdict;
    }
    for round in 0.. {
        if let Some(verdict) = Box::pin(limit::check(worker, lane, job, round)).await {
            return verdict;
        }
        if sending::must_be_put_down(job) {
            let verdict = Box::pin(sending::put_down(worker, lane, job)).await;
            if !matches!(verdict, Verdict::Pass) {
                return verdict;
            }
        }
        // Whoever was stopped meanwhile has let its turn go by.
        if limit::is_timely(job, round) {
            limit::own_up(worker, lane, job);
            break;
        }
    }
    Verdict::Pass
}
