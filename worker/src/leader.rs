//! The task that leads a memo makes its call for all who follow. Here it takes the lead, keeps it while it waits, and hands
//! on what came of it.

use std::sync::Arc;
use std::time::Duration;

use redial_core::consumer::ParkedTasks;
use redial_core::memo::{KeptAnswer, LeadDecision, LeadOutcome, LeadTerms, MemoKey, MemoPurpose, StoredAnswer};
use redial_core::protocol::task::Effect;
use redial_core::{QueueName, Reason, Status, TaskResult};

use crate::job::Job;
use crate::persist::persist;
use crate::sharer;
use crate::worker::{Lane, Worker};

/// How long, beyond all that it may take otherwise, a leader that was not heard of is waited for where no one else may make
/// the call: time for a fleet that was down to come back.
const ONCE: Duration = Duration::from_secs(600);

/// What those are told who may not call in a lost leader's place.
pub const UNKNOWN: &str = "a call with this idempotency key may have been made, no answer to it is known, and effect \"once\" forbids a second one";

/// What a memo does with its leader's result.
#[derive(Debug, PartialEq)]
enum Will {
    /// Keeps it, and all who wait get it.
    Keep(Duration),
    /// All who wait get it, and it is not kept.
    Share,
    /// The next in line makes the call.
    Pass,
}

/// Asks for the lead, or to keep it for `wait` and an attempt after it. A worker that dies is noticed long before the lead
/// ends: its task is redelivered, and leads on. The end of the lead is for tasks that never come back.
pub async fn lead(worker: &Worker, lane: &Lane, job: &Job, key: &MemoKey, wait: Duration) -> Option<LeadDecision> {
    let once = key.purpose == MemoPurpose::Idempotency && job.task.effect == Effect::Once;
    let silence = worker.config.lease * 2 + if once { ONCE } else { Duration::ZERO };
    let terms = LeadTerms { max_age: job.max_age(key.purpose), lease: wait + job.task.timeout + silence, once };
    let ask = || lane.memos.lead(key, job.delivery(lane.consumer.queue().name()), terms);
    persist(worker, lane, "lead", ask).await
}

/// Ends every lead of a task with its result. Returns the result that stands: under an idempotency key that may be another
/// one's, if this task had lost the lead.
pub async fn settle(worker: &Arc<Worker>, lane: &Arc<Lane>, job: &Job, mut result: TaskResult) -> TaskResult {
    for key in &job.leads {
        let answer = StoredAnswer::of(&result);
        let will = will(worker, job, key.purpose, &result, answer.bytes());
        let keep = match &will {
            Will::Keep(span) => Some((&answer, *span)),
            Will::Share | Will::Pass => None,
        };
        let end = || lane.memos.settle_as_holder(&lane.consumer, key, job.delivery(lane.consumer.queue().name()), keep);
        let settled = persist(worker, lane, "settle", end).await;
        match settled {
            Some(LeadOutcome::Done(queues)) if will == Will::Pass => pass_on(worker, lane, key, &queues).await,
            Some(LeadOutcome::Done(mut queues)) => {
                let own = lane.consumer.queue().name();
                // What is not kept, a follower that is parked in this very moment would not find.
                if will == Will::Share && !queues.contains(own) {
                    queues.push(own.clone());
                }
                let kept = KeptAnswer { result: result.clone(), by: job.header.serial.clone() };
                sharer::start(worker, lane, &key.hash, kept, queues);
            }
            Some(LeadOutcome::Stands(kept, queues)) => {
                if key.purpose == MemoPurpose::Idempotency {
                    result = job.result_from(&kept, key.purpose, lane.clock.now());
                }
                sharer::start(worker, lane, &key.hash, *kept, queues);
            }
            Some(LeadOutcome::Lost) => {
                tracing::info!(task = %job.id, queue = %lane.name, "the lead of its memo was lost meanwhile: its answer is its own alone");
            }
            None => {}
        }
    }
    result
}

fn will(worker: &Worker, job: &Job, purpose: MemoPurpose, result: &TaskResult, bytes: usize) -> Will {
    match purpose {
        // As with Stripe, a key that no call was made with is not used up; nor is one whose task was taken back: others still want it.
        MemoPurpose::Idempotency if made_no_call(job, result) || result.reason == Some(Reason::Cancelled) => Will::Pass,
        MemoPurpose::Idempotency => Will::Keep(worker.config.idempotency_hold),
        MemoPurpose::Cache if result.status == Status::Dead => Will::Pass,
        MemoPurpose::Cache => match job.task.cache_ttl {
            Some(ttl) if !ttl.is_zero() && bytes <= worker.config.cache_max_bytes => Will::Keep(ttl),
            _ => Will::Share,
        },
    }
}

fn made_no_call(job: &Job, result: &TaskResult) -> bool {
    result.reason == Some(Reason::Expired) && result.attempts.is_empty() && job.header.crashes == 0
}

/// The next in line makes the call, in whichever queue there is one.
async fn pass_on(worker: &Worker, lane: &Lane, key: &MemoKey, queues: &[QueueName]) {
    let behind = key.wait_list();
    let promote = || ParkedTasks::unpark_first_in_any(lane.consumer.queue().db(), queues, &behind);
    if persist(worker, lane, "promote", promote).await != Some(false) {
        worker.scheduled_in(Duration::ZERO);
    }
}
