//! Makes the checks of one queue at their time: of wait lists, and of stored tasks whose deadline has passed. They need no slot.
//!
//! Redis has the times, so that a check is made whichever workers die. A worker knows the next one from its last look, from its
//! heartbeats, and from the tasks that it stores itself. While there is nothing to check, nothing is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::consumer::{CheckRound, DueCheck, WaitReason};
use tokio::sync::Semaphore;

use super::queue_worker::QueueWorker;
use crate::breaker::drain::drain_when_up;
use crate::limit::client::DrainReason;
use crate::memo::sharer;
use crate::task::expire::expire;

/// The shortest time between a look and the next one for a check of which this worker only heard: most of those, another one makes.
const HEARD_WAIT: Duration = Duration::from_millis(500);
/// The shortest time between two looks, unless the last one left something.
const MIN_WAIT: Duration = Duration::from_millis(50);
/// The wait after a look that failed.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How many batches of expired tasks are ended at a time.
const MAX_BATCHES: usize = 4;

/// Runs until the worker stops claiming.
pub async fn run(worker: QueueWorker) {
    let batches = Arc::new(Semaphore::new(MAX_BATCHES));
    let mut earliest = Instant::now();
    loop {
        tokio::select! {
            () = worker.queue.checks.due(earliest) => {}
            () = worker.shared.stop.cancelled() => return,
        }
        let next_in = look(&worker, &batches).await;
        earliest = Instant::now() + if next_in == Some(Duration::ZERO) { Duration::ZERO } else { MIN_WAIT };
        if let Some(wait) = next_in {
            worker.queue.checks.due_in(if wait.is_zero() { wait } else { wait.max(HEARD_WAIT) });
        }
    }
}

/// Makes some of the checks that are due, and returns when the next one is.
async fn look(worker: &QueueWorker, batches: &Arc<Semaphore>) -> Option<Duration> {
    let batch = batches.clone().acquire_owned().await.ok()?;
    let CheckRound { due, next_in } = match worker.queue.consumer.due_checks(worker.shared.config.lease).await {
        Ok(round) => round,
        Err(error) => {
            tracing::debug!(%error, queue = worker.name(), "could not look for checks that are due");
            return Some(RETRY_WAIT);
        }
    };
    let (mut expired, mut unreadable) = (Vec::new(), Vec::new());
    for check in due {
        match check {
            DueCheck::Deadline(entry) => expired.push(entry),
            DueCheck::Unreadable(token) => unreadable.push(token),
            DueCheck::List(list) => match list.reason {
                WaitReason::Memo => drop(tokio::spawn(check_memo(worker.clone(), list.name))),
                WaitReason::Breaker => drain_when_up(worker, &list.name),
                WaitReason::InFlight => worker.shared.in_flight.waits(&list.name, worker.queue_name().as_str()),
                WaitReason::Limit => worker.shared.limits.signal(&list.name, DrainReason::Unattended),
            },
        }
    }
    if !expired.is_empty() || !unreadable.is_empty() {
        let worker = worker.clone();
        tokio::spawn(async move {
            expire(&worker, expired, unreadable).await;
            drop(batch);
        });
    }
    next_in
}

async fn check_memo(worker: QueueWorker, hash: String) {
    sharer::check_on(&worker, &hash).await;
}
