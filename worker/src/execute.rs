//! The story of a task in a worker's hands: gate, call, classify, settle.

use std::sync::Arc;
use std::time::Duration;

use redial_core::queue::entry::Entry;

use crate::breaker;
use crate::call::Called;
use crate::classify::{self, Outcome, Policy, classify};
use crate::clock::ms;
use crate::gate::{self, Verdict};
use crate::job::Job;
use crate::limits;
use crate::settle::{self, Settler};
use crate::worker::{Lane, Slot, Worker};

/// Brings one claimed task as far as it goes now: to its end, or back to Redis for later.
///
/// Thousands of these are in flight at a time, so the rare ways out are boxed: their space is taken only when they are.
pub async fn execute(worker: Arc<Worker>, lane: Arc<Lane>, entry: Entry, slot: Slot) {
    let settler = Settler::new(&worker, &lane);
    let mut job = match Job::open(entry, worker.config.max_task_bytes) {
        Ok(job) => job,
        Err(unfit) => return Box::pin(settler.refuse(unfit)).await,
    };
    worker.metrics.note_fields(&job.task);

    match gate::pass(&worker, &lane, &mut job).await {
        Verdict::Pass => {}
        Verdict::Defer { wait, not_before } => {
            return Box::pin(settler.defer(&job, wait, not_before)).await;
        }
        Verdict::Answered(kept, purpose) => {
            return Box::pin(settler.answer_from(&job, &kept, purpose, slot)).await;
        }
        Verdict::Follow(key) => return Box::pin(settler.follow(&job, &key)).await,
        Verdict::Down(wait) => return Box::pin(settler.wait_for_upstream(&job, wait)).await,
        Verdict::Reject(reason, error) => {
            return Box::pin(settler.bury(&job, reason, error, None, slot)).await;
        }
        Verdict::Lost => return settle::lost(&worker, &lane, Some(&job.id), false),
    }

    let started = lane.clock.now();
    let called = match call(&worker, &lane, &job, &slot).await {
        Ok(called) => called,
        Err(GivenUp::Stopping) => return Box::pin(settler.give_back(&job, slot)).await,
        Err(GivenUp::Lost) => return Box::pin(settler.give_up(&job)).await,
    };
    let took_ms = lane.clock.now().since(started);
    worker.metrics.attempt(&lane.name, &called, took_ms);
    if let Some(leave) = &job.leave {
        breaker::record(&worker, &lane, leave, &called);
    }
    if !job.limits.is_empty() {
        job.places.clear();
        Box::pin(limits::learn(&worker, &lane, &job, &called)).await;
    }

    match classify(&called, &policy(&worker, &lane, &job)) {
        Outcome::Complete => {
            job.remember(started, took_ms, &called, None, None);
            let result = settler.good(&job, called);
            if job.leads.is_empty() {
                settler.complete(&job, &result, slot);
            } else {
                Box::pin(settler.end(&job, result, slot)).await;
            }
        }
        Outcome::Again { wait, backoff, counts, error } => {
            job.remember(started, took_ms, &called, Some(&error), Some(ms(wait)));
            job.header.state.backoff_ms = ms(backoff);
            job.header.state.counted += u32::from(counts);
            job.header.state.uncounted += u32::from(!counts);
            Box::pin(settler.retry(&mut job, &called, wait, &error)).await;
        }
        Outcome::Dead { reason, error } => {
            job.remember(started, took_ms, &called, Some(&error), None);
            Box::pin(settler.bury(&job, reason, error, Some(called), slot)).await;
        }
    }
}

/// Why a call was given up.
enum GivenUp {
    /// The deadline of a drain.
    Stopping,
    /// The task is not this worker's any more.
    Lost,
}

/// Makes the call, unless something ends it first.
async fn call(worker: &Worker, lane: &Lane, job: &Job, slot: &Slot) -> Result<Called, GivenUp> {
    #[cfg(debug_assertions)]
    crate::debug::maybe_abort(&job.task.url);
    tokio::select! {
        called = worker.caller.call(&job.task, worker.config.upstreams.headers_for(&job.task)) => Ok(called),
        () = worker.abort.cancelled() => Err(GivenUp::Stopping),
        () = in_vain(lane, job, slot) => Err(GivenUp::Lost),
    }
}

/// Waits until no one wants the answer any more: the lease is gone, and with it the right to write a result. Memos take the answer
/// all the same, unless the task was cancelled: its next delivery finds it there.
async fn in_vain(lane: &Lane, job: &Job, slot: &Slot) {
    slot.lost().await;
    if !job.leads.is_empty() && !lane.consumer.queue().is_cancelled(&job.id).await.unwrap_or(false) {
        std::future::pending::<()>().await;
    }
}

fn policy<'a>(worker: &Worker, lane: &Lane, job: &'a Job) -> Policy<'a> {
    Policy {
        retry: &job.task.retry,
        effect: job.task.effect,
        retry_conflict: job.task.idempotency_key.is_some() || classify::retries_conflict(job.task.url.host_str()),
        counted: job.header.state.counted,
        free_waits: job.header.state.uncounted,
        max_free_waits: worker.config.max_free_waits,
        is_probe: job.leave.as_ref().is_some_and(|leave| leave.is_probe),
        previous: Duration::from_millis(job.header.state.backoff_ms),
        max_stated_wait: worker.config.max_stated_wait,
        now: lane.clock.now(),
        deadline: job.task.deadline(job.header.first_seen),
        random: rand::random(),
    }
}
