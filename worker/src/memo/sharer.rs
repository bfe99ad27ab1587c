//! Shares the answer of a memo with the tasks that follow it. The worker that has the answer does so, without slots or calls.

use std::time::Duration;

use redial_core::consumer::{Completion, MAX_BATCH, ParkedPage, ParkedTasks, WaitList};
use redial_core::memo::{KeptAnswer, LeadDecision, MemoKey, MemoPurpose};
use redial_core::protocol::id::Token;
use redial_core::queue::entry::Entry;
use redial_core::{Error, QueueName, Reason, Status, TaskResult};

use super::leader::{OUTCOME_UNKNOWN, Share};
use crate::observe::metrics::MemoEvent;
use crate::queue::completer::wake_for_delivery;
use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use crate::task::events;
use crate::task::heavy;
use crate::task::job::Job;
use crate::task::refused::{Place, RefusedEnding};
use crate::task::stream;
use crate::task::traces;

/// How many bytes of answers are sent to Redis at a time.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// Starts sharing an answer in the background.
pub fn start(worker: &QueueWorker, share: Share) {
    let Share { hash, kept, queues } = share;
    if queues.is_empty() {
        return;
    }
    let sharer = Sharer { worker: worker.clone(), kept };
    let list = WaitList::memo(&hash);
    worker.shared.background.spawn(async move {
        for queue in queues {
            let parked = ParkedTasks::new(sharer.worker.redis_queue().db().queue(queue), &list);
            sharer.share(&parked).await;
        }
    });
}

/// Checks on a memo whose followers have waited for a while: its leader may be gone, or the worker that was sharing its answer.
pub async fn check_on(worker: &QueueWorker, hash: &str) {
    let parked = ParkedTasks::new(worker.redis_queue().clone(), &WaitList::memo(hash));
    // Reading a page also drops the list from the watch if it is empty.
    let Ok(ParkedPage { left: 1.., .. }) = parked.next(1).await else { return };
    let own = vec![worker.queue_name().clone()];
    match worker.shared.memos.memos().check_on_leader(hash, worker.queue_name()).await {
        Ok(LeadDecision::Answer(kept)) => start(worker, Share { hash: hash.to_owned(), kept: *kept, queues: own }),
        Ok(LeadDecision::Unknown) => {
            let mut result = TaskResult::new(None, Status::Dead, worker.queue.clock.now());
            result.reason = Some(Reason::OutcomeUnknown);
            result.error = Some(OUTCOME_UNKNOWN.into());
            let kept = KeptAnswer { result, by: String::new() };
            start(worker, Share { hash: hash.to_owned(), kept, queues: own });
        }
        Ok(LeadDecision::Free) => unpark(worker, &parked, None).await,
        Ok(LeadDecision::Follow) => end_lead_of_parked(worker, hash, &parked).await,
        Ok(LeadDecision::Lead | LeadDecision::Mismatch) => {}
        Err(error) => tracing::debug!(%error, "could not check on a memo; a later check tries again"),
    }
}

/// Ends the lead of a task that is itself parked behind this memo, and lets the next task make the call. A delivery that had lost its
/// lease can have taken such a lead, which nobody else would ever end.
async fn end_lead_of_parked(worker: &QueueWorker, hash: &str, parked: &ParkedTasks) {
    match worker.shared.memos.memos().end_lead_of_parked(hash, parked).await {
        Ok(true) => unpark(worker, parked, None).await,
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "could not check on a memo; a later check tries again"),
    }
}

/// Lets a parked task run: this one, or the next. If that fails, a later check tries again.
pub async fn unpark(worker: &QueueWorker, parked: &ParkedTasks, task: Option<&Token>) {
    match parked.unpark(task).await {
        Ok(true) => worker.queue.wakeups.task_due_in(Duration::ZERO),
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "could not unpark a task; a later check tries again"),
    }
}

/// One answer on its way to the tasks that wait for it.
struct Sharer {
    worker: QueueWorker,
    kept: KeptAnswer,
}

impl Sharer {
    async fn share(&self, parked: &ParkedTasks) {
        let bytes = self.kept.result.to_line().len();
        let page_size = (MAX_PAGE_BYTES / bytes.max(1)).clamp(1, MAX_BATCH);
        loop {
            match self.retry("parked_page", || parked.next(page_size)).await {
                Err(_) | Ok(ParkedPage { left: 0, .. }) => return,
                Ok(page) => {
                    // Redis refuses everything about these. The list is checked again, so nothing is gained by trying at once.
                    if !Box::pin(self.answer(parked, page)).await {
                        return;
                    }
                }
            }
            if self.worker.shared.abort.is_cancelled() {
                return;
            }
        }
    }

    /// Ends the tasks of a page, or lets them run. Returns whether that succeeded for any of them.
    async fn answer(&self, parked: &ParkedTasks, page: ParkedPage) -> bool {
        // Reading it has cleared away what was no longer parked.
        if page.entries.is_empty() && page.unreadable.is_empty() {
            return true;
        }
        let mut not_answered = page.unreadable;
        let mut results = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            match heavy::work(entry.raw.len(), || self.result(entry, parked.queue().name())).await {
                Ok(result) => results.push(result),
                Err(token) => not_answered.push(token),
            }
        }
        // Tasks that this answer does not suit run on their own.
        let mut succeeded = false;
        for token in not_answered {
            succeeded |= self.let_run(parked, &token).await;
        }
        succeeded
            | match self.kept.result.status {
                Status::Ok => self.finish(parked, results).await,
                Status::Dead => Box::pin(self.bury(parked, results)).await,
            }
    }

    async fn let_run(&self, parked: &ParkedTasks, token: &Token) -> bool {
        let unparked = self.retry("unpark", || parked.unpark(Some(token))).await;
        self.worker.queue.wakeups.task_due_in(Duration::ZERO);
        unparked.is_ok()
    }

    /// A parked task's result; or its token if this answer does not suit it, because it uses another memo as well, or wants a fresher
    /// answer.
    fn result(&self, entry: Entry, queue: &QueueName) -> Result<(Job, TaskResult), Token> {
        let token = entry.token.clone();
        let job = Job::open(entry, queue, &self.worker.shared.config).map_err(|_| token.clone())?;
        if job.task.idempotency_key.is_some() && job.task.cache_ttl.is_some() {
            return Err(token);
        }
        let purpose = purpose(&job);
        let made_at = self.kept.result.finished_at_ms;
        let now = self.worker.queue.clock.now();
        let is_fresh = made_at >= job.header.first_seen
            || job.max_age(purpose).is_none_or(|max| u128::from(now.since(made_at)) < max.as_millis());
        if !is_fresh {
            return Err(token);
        }
        let result = job.result_from(&self.kept, purpose, now);
        Ok((job, result))
    }

    async fn finish(&self, parked: &ParkedTasks, mut results: Vec<(Job, TaskResult)>) -> bool {
        if results.is_empty() {
            return false;
        }
        let mut completions: Vec<Completion> = Vec::with_capacity(results.len());
        for (job, result) in &mut results {
            stream::append_kept(&self.worker, Place::Stored(parked.queue()), job, result).await;
            completions.push(heavy::work(job.bytes_to_finish(result.body_bytes()), || job.completion(result)).await);
        }
        let error = match self.retry("finish", || parked.finish(&completions)).await {
            Ok(stored) => {
                for completion in &completions {
                    wake_for_delivery(&self.worker.shared, parked.queue().name(), completion);
                }
                self.report(parked, &results, stored);
                return true;
            }
            Err(NotStored::Aborted) => return false,
            Err(NotStored::Refused(error)) => error,
        };
        let mut succeeded = false;
        if let ([(job, result)], [completion]) = (results.as_slice(), completions.as_slice()) {
            return self.end_refused(parked, job, result.clone(), completion, &error).await;
        }
        for one in results {
            succeeded |= Box::pin(self.finish(parked, vec![one])).await;
        }
        succeeded
    }

    fn report(&self, parked: &ParkedTasks, results: &[(Job, TaskResult)], stored: Vec<bool>) {
        let whole = parked.queue().whole_name();
        let queue = whole.as_str();
        for ((job, result), _) in results.iter().zip(stored).filter(|(_, stored)| *stored) {
            self.worker.shared.metrics.queues.completed(queue);
            self.worker.shared.statistics.of(&whole).completed(result.source);
            self.count_shared(queue, job);
            events::done(&self.worker.shared.events.of(&whole), result);
            traces::task_ended(&self.worker, job, result);
            tracing::debug!(task = %job.id, queue, "completed with the answer of its leader");
        }
    }

    async fn bury(&self, parked: &ParkedTasks, results: Vec<(Job, TaskResult)>) -> bool {
        let mut succeeded = false;
        for (job, result) in results {
            let added = self.worker.shared.config.upstreams.current().identity_for(&job.task);
            let letter = job.dead_letter_header(&result, &added);
            let completion = job.completion(&result);
            let bury = || parked.bury(&job.token, &letter, Some(&completion));
            succeeded |= match self.retry("bury", bury).await {
                Ok(true) => {
                    wake_for_delivery(&self.worker.shared, parked.queue().name(), &completion);
                    self.report_dead(parked, &job, &result);
                    true
                }
                Ok(false) => true,
                Err(NotStored::Aborted) => false,
                Err(NotStored::Refused(error)) => self.end_refused(parked, &job, result, &completion, &error).await,
            };
        }
        succeeded
    }

    /// Ends a task whose end Redis refuses. If it refuses that as well, the task runs on its own, which counts its crashes.
    async fn end_refused(
        &self,
        parked: &ParkedTasks,
        job: &Job,
        result: TaskResult,
        completion: &Completion,
        error: &Error,
    ) -> bool {
        let added = self.worker.shared.config.upstreams.current().identity_for(&job.task);
        let memo = MemoKey::idempotency(&job.task, &added).map(|key| key.hash);
        let (token, serial, memo, completion) = (&job.token, &job.header.serial, memo.as_deref(), Some(completion));
        let refused = RefusedEnding { token, result, serial, memo, completion, error };
        match refused.bury(&self.worker.queue.retry, Place::Stored(parked.queue())).await {
            Ok(Some(result)) => {
                self.report_dead(parked, job, &result);
                true
            }
            Ok(None) => true,
            Err(NotStored::Aborted) => false,
            Err(NotStored::Refused(_)) => self.let_run(parked, token).await,
        }
    }

    fn report_dead(&self, parked: &ParkedTasks, job: &Job, result: &TaskResult) {
        let whole = parked.queue().whole_name();
        let queue = whole.as_str();
        let reason = result.reason.unwrap_or(Reason::AttemptsExhausted);
        self.worker.shared.metrics.dead(queue, reason);
        self.worker.shared.statistics.of(&whole).dead(reason);
        self.count_shared(queue, job);
        events::done(&self.worker.shared.events.of(&whole), result);
        traces::task_ended(&self.worker, job, result);
        let (error, trace_id) = (result.error.as_deref().unwrap_or_default(), traces::trace_id(&self.worker, job));
        tracing::warn!(task = %job.id, queue, error, trace_id, "task is dead, with the answer of its leader");
    }

    fn count_shared(&self, queue: &str, job: &Job) {
        self.worker.shared.metrics.memo(queue, purpose(job), MemoEvent::Shared);
    }

    async fn retry<T, F: Future<Output = Result<T, Error>>>(
        &self,
        command: &'static str,
        attempt: impl FnMut() -> F,
    ) -> Result<T, NotStored> {
        self.worker.queue.retry.retry(command, attempt).await
    }
}

/// Which of its memos a parked task waits for.
fn purpose(job: &Job) -> MemoPurpose {
    if job.task.idempotency_key.is_some() { MemoPurpose::Idempotency } else { MemoPurpose::Cache }
}
