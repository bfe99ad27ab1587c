//! The task that leads a memo makes its call for all that follow. Here it takes the lead, keeps it while it waits, and settles it.

use std::time::Duration;

use redial_core::consumer::ParkedTasks;
use redial_core::memo::{KeptAnswer, LeadDecision, LeadOutcome, LeadTerms, MemoKey, MemoPurpose, StoredAnswer};
use redial_core::protocol::task::Effect;
use redial_core::{Error, QueueName, Reason, Status, TaskResult};

use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use crate::task::heavy;
use crate::task::job::Job;

/// How much longer a silent leader is waited for if no other task may make the call: time for a fleet that was down to return.
const ONCE_GRACE: Duration = Duration::from_secs(600);

/// Why tasks end that must not call in place of a leader that is gone.
pub const OUTCOME_UNKNOWN: &str = "a call with this idempotency key may have been made, no answer to it is known, and effect \"once\" forbids a second one";

/// What a memo does with its leader's result.
#[derive(Debug, PartialEq)]
enum SettleAction {
    /// Keep it this long, and share it with all that wait.
    Keep(Duration),
    /// Share it with all that wait, but do not keep it.
    Share,
    /// Let the next task in the wait list make the call.
    PassOn,
}

/// An answer, and the queues in which tasks may wait for it.
#[derive(Debug)]
pub struct Share {
    /// The memo's hash.
    pub hash: String,
    pub kept: KeptAnswer,
    pub queues: Vec<QueueName>,
}

/// What came of settling the leads of a task.
#[derive(Debug)]
pub struct SettledLeads {
    /// The task's result. Under an idempotency key it may be another task's, if this one had lost the lead.
    pub result: TaskResult,
    /// The answers to share.
    pub shares: Vec<Share>,
}

/// Takes the lead, or keeps it for `wait` and one attempt after that. If the worker dies, this is noticed long before the lead ends:
/// the task is redelivered and goes on leading. The end of a lead is for tasks that never return: no call is under way, so another task
/// may make it.
///
/// # Errors
/// The memo cannot be asked.
pub async fn lead(worker: &QueueWorker, job: &Job, key: &MemoKey, wait: Duration) -> Result<LeadDecision, NotStored> {
    ask_to_lead(worker, job, key, wait, false).await
}

/// Whether the call of a lead may not be made twice, so that the memo has to know when it is about to be sent.
pub fn is_once(job: &Job, key: &MemoKey) -> bool {
    key.purpose == MemoPurpose::Idempotency && job.task.effect == Effect::Once
}

/// Keeps the lead for a call that is about to be sent and may not be made twice. From here on no other task may lead, unless this one
/// asks for the lead again because its call had no effect.
///
/// # Errors
/// The memo cannot be asked.
pub async fn lead_call(worker: &QueueWorker, job: &Job, key: &MemoKey) -> Result<LeadDecision, NotStored> {
    ask_to_lead(worker, job, key, ONCE_GRACE, true).await
}

async fn ask_to_lead(
    worker: &QueueWorker,
    job: &Job,
    key: &MemoKey,
    wait: Duration,
    once: bool,
) -> Result<LeadDecision, NotStored> {
    let lease = wait + job.task.timeout + worker.shared.config.lease * 2;
    let keep = match key.purpose {
        MemoPurpose::Idempotency => worker.shared.config.idempotency_hold,
        MemoPurpose::Cache => job.task.cache_ttl.unwrap_or_default(),
    };
    let terms = LeadTerms { max_age: job.max_age(key.purpose), lease, once, keep };
    worker.shared.memos.lead(&worker.queue.retry, key, job.delivery(worker.queue_name()), terms).await
}

/// Asks whether a task leads already, or what has become of its leader. It does not begin to lead.
///
/// # Errors
/// The memo cannot be asked.
pub async fn recheck(worker: &QueueWorker, job: &Job, key: &MemoKey) -> Result<LeadDecision, NotStored> {
    let (delivery, max_age) = (job.delivery(worker.queue_name()), job.max_age(key.purpose));
    worker.shared.memos.recheck(&worker.queue.retry, key, delivery, max_age).await
}

/// Ends every lead of a task with its result.
pub async fn settle(worker: &QueueWorker, job: &Job, leads: &[MemoKey], mut result: TaskResult) -> SettledLeads {
    let mut shares = Vec::new();
    let mut answer = stored(&result).await;
    for key in leads {
        let action = settle_action(worker, job, key.purpose, &result, answer.bytes());
        let keep = match &action {
            SettleAction::Keep(ttl) => Some((&answer, *ttl)),
            SettleAction::Share | SettleAction::PassOn => None,
        };
        let mut substitute = None;
        let mut outcome = end_lead(worker, job, key, keep).await;
        if let (Err(NotStored::Refused(error)), Some((_, ttl))) = (&outcome, keep) {
            // The answer is what is refused, as when it is too large. The key is used up all the same.
            substitute = (key.purpose == MemoPurpose::Idempotency).then(|| not_kept(&result, error));
            let answer = substitute.as_ref().map(StoredAnswer::of);
            outcome = end_lead(worker, job, key, answer.as_ref().map(|answer| (answer, ttl))).await;
        }
        match outcome {
            Ok(LeadOutcome::Done(queues)) if action == SettleAction::PassOn => {
                Box::pin(pass_on(worker, key, &queues)).await;
            }
            Ok(LeadOutcome::Done(mut queues)) => {
                let own = worker.queue_name();
                // A task that is parked at this very moment would not find an answer that is not kept.
                if action == SettleAction::Share && !queues.contains(own) {
                    queues.push(own.clone());
                }
                if !queues.is_empty() {
                    let result = substitute.unwrap_or_else(|| result.clone());
                    let kept = KeptAnswer { result, by: job.header.serial.clone() };
                    shares.push(Share { hash: key.hash.clone(), kept, queues });
                }
            }
            Ok(LeadOutcome::Stands(kept, queues)) => {
                if key.purpose == MemoPurpose::Idempotency {
                    result = job.result_from(&kept, key.purpose, worker.queue.clock.now());
                    answer = stored(&result).await;
                }
                shares.push(Share { hash: key.hash.clone(), kept: *kept, queues });
            }
            Ok(LeadOutcome::Lost) => {
                tracing::info!(task = %job.id, queue = worker.name(), "another task leads the memo by now: this answer is not shared");
            }
            // The lead ends by itself, and then the followers are told or run.
            Err(_) => {}
        }
    }
    SettledLeads { result, shares }
}

async fn stored(result: &TaskResult) -> StoredAnswer {
    heavy::work(result.body_bytes(), || StoredAnswer::of(result)).await
}

async fn end_lead(
    worker: &QueueWorker,
    job: &Job,
    key: &MemoKey,
    keep: Option<(&StoredAnswer, Duration)>,
) -> Result<LeadOutcome, NotStored> {
    let (retry, consumer) = (&worker.queue.retry, &worker.queue.consumer);
    worker.shared.memos.settle(retry, consumer, key, job.delivery(worker.queue_name()), keep).await
}

/// What is kept under an idempotency key in place of an answer that Redis does not store.
fn not_kept(result: &TaskResult, error: &Error) -> TaskResult {
    let mut substitute = result.clone();
    (substitute.headers, substitute.body, substitute.body_text, substitute.body_base64) = (None, None, None, None);
    substitute.status = Status::Dead;
    substitute.reason = Some(Reason::TooLarge);
    substitute.error =
        Some(format!("the call with this idempotency key was answered, but Redis refuses to keep the answer: {error}"));
    substitute
}

fn settle_action(
    worker: &QueueWorker,
    job: &Job,
    purpose: MemoPurpose,
    result: &TaskResult,
    bytes: usize,
) -> SettleAction {
    let config = &worker.shared.config;
    match purpose {
        // As with Stripe, a key is not used up if no call was made with it; nor if its task was cancelled, as others still want it.
        MemoPurpose::Idempotency if made_no_call(job, result) || result.reason == Some(Reason::Cancelled) => {
            SettleAction::PassOn
        }
        MemoPurpose::Idempotency => SettleAction::Keep(config.idempotency_hold),
        MemoPurpose::Cache if result.status == Status::Dead => SettleAction::PassOn,
        MemoPurpose::Cache => match job.task.cache_ttl {
            Some(ttl) if !ttl.is_zero() && bytes <= config.cache_max_bytes => SettleAction::Keep(ttl),
            _ => SettleAction::Share,
        },
    }
}

fn made_no_call(job: &Job, result: &TaskResult) -> bool {
    let ended_waiting = matches!(result.reason, Some(Reason::Expired | Reason::OverBudget));
    ended_waiting && result.attempts.is_empty() && job.header.crashes == 0
}

/// Lets the next task in the wait list make the call, in whichever queue there is one.
async fn pass_on(worker: &QueueWorker, key: &MemoKey, queues: &[QueueName]) {
    let list = key.wait_list();
    let unpark = || ParkedTasks::unpark_first_in_any(worker.redis_queue().db(), queues, &list);
    if !matches!(worker.queue.retry.retry("unpark", unpark).await, Ok(false)) {
        worker.shared.wakeups.wake(queues);
    }
}
