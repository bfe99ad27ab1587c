//! What becomes of a task: every way out of a worker, and its line in the log.

mod park;

use std::time::Duration;

use redial_core::consumer::{Completion, RescheduleReason, dead_letter_header};
use redial_core::memo::{KeptAnswer, MemoKey, MemoPurpose};
use redial_core::protocol::event::WaitCause;
use redial_core::protocol::id::Token;
use redial_core::protocol::task::{Effect, InvalidTask, OnBreak, ReturnAddress, TaskError};
use redial_core::queue::entry::{Entry, EntryHeader};
use redial_core::{Attempt, Reason, Source, Status, TaskId, TaskResult, UnixMs};

use super::events;
use super::heavy;
use super::job::{InvalidJob, Job};
use super::refused::{self, Place, RefusedEnding};
use super::stream;
use super::traces;
use super::types::Admission;
use crate::breaker::client::upstream_of;
use crate::http::types::{self, AttemptResult};
use crate::limit;
use crate::memo::{leader, sharer};
use crate::observe::attempt_metrics::AttemptEnding;
use crate::queue::clock::millis;
use crate::queue::completer::{report_not_stored, wake_for_delivery};
use crate::queue::held_tasks::{HeldTask, SucceededTask};
use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::{NotStored, Resent, Stored};

/// How long a task waits, about, whose call could not begin.
const GIVE_BACK_WAIT: Duration = Duration::from_millis(500);

/// Settles the tasks of one queue.
#[derive(Debug)]
pub struct Settler<'a> {
    worker: &'a QueueWorker,
}

/// A task that is about to be dead.
struct DeadTask<'a> {
    token: &'a Token,
    serial: &'a str,
    /// The id of its trace, for the log.
    trace_id: Option<String>,
}

impl<'a> Settler<'a> {
    /// The settler of a worker's queue.
    pub fn new(worker: &'a QueueWorker) -> Self {
        Self { worker }
    }

    /// The result of a successful attempt.
    pub fn success(&self, job: &Job, attempt: AttemptResult) -> TaskResult {
        job.result(Status::Ok, self.now(), Some(attempt))
    }

    /// Ends a task that succeeded, whatever the size of its response.
    pub async fn finish_success(&self, job: &Job, leads: &[MemoKey], attempt: AttemptResult, held: HeldTask) {
        let result = heavy::work(types::bytes(&attempt), || self.success(job, attempt)).await;
        self.finish(job, leads, result, held).await;
    }

    /// Ends a task whose last attempt failed, whatever the size of its response.
    pub async fn finish_failure(
        &self,
        job: &Job,
        leads: &[MemoKey],
        reason: Reason,
        error: String,
        attempt: AttemptResult,
        held: HeldTask,
    ) {
        events::attempt_failed(self.worker, job, events::attempts_made(job) + 1);
        let result = heavy::work(types::bytes(&attempt), || job.dead(reason, error, self.now(), Some(attempt))).await;
        self.finish(job, leads, result, held).await;
    }

    /// Passes a successful result to the completer, which writes many at once. The task keeps its slot until Redis has the result.
    pub fn complete(&self, job: &Job, result: &TaskResult, held: HeldTask) {
        traces::task_ended(self.worker, job, result);
        self.pass_on(job.completion(result), result.source, held);
    }

    fn pass_on(&self, completion: Completion, source: Source, held: HeldTask) {
        self.worker.queue.statistics.completed(source);
        let succeeded = SucceededTask { completion, held };
        // The completer runs until every slot is free, so it is there as long as a task is held.
        let _ = self.worker.queue.completer.send(succeeded);
    }

    /// Ends a task, successful or not. Its memos are settled first: if this worker dies in between, the task's next delivery finds
    /// the answer there.
    pub async fn finish(&self, job: &Job, leads: &[MemoKey], mut result: TaskResult, held: HeldTask) {
        if !leads.is_empty() {
            result = self.settle_leads(job, leads, result).await;
        }
        // The tasks that follow are made of the result, and the letter of the task.
        let bytes = job.bytes_to_finish(result.body_bytes());
        let completion = heavy::work(bytes, || job.completion(&result)).await;
        traces::task_ended(self.worker, job, &result);
        match result.status {
            Status::Ok => self.pass_on(completion, result.source, held),
            Status::Dead => {
                let added = self.worker.shared.config.upstreams.current().identity_for(&job.task);
                let letter = heavy::work(bytes, || job.dead_letter_header(&result, &added)).await;
                let dead = DeadTask {
                    token: &job.token,
                    serial: &job.header.serial,
                    trace_id: traces::trace_id(self.worker, job),
                };
                Box::pin(self.write_dead_letter(dead, &letter, result, Some(&completion))).await;
            }
        }
    }

    /// Ends a task with an answer that a memo kept.
    pub async fn answer_from_memo(
        &self,
        job: &Job,
        leads: &[MemoKey],
        kept: &KeptAnswer,
        purpose: MemoPurpose,
        held: HeldTask,
    ) {
        let mut result = job.result_from(kept, purpose, self.now());
        Box::pin(stream::append_kept(self.worker, Place::Held(&self.worker.queue.consumer), job, &mut result)).await;
        self.finish(job, leads, result, held).await;
    }

    /// Ends a task without a good answer and without a further attempt.
    pub async fn bury(&self, job: &Job, leads: &[MemoKey], reason: Reason, error: String, held: HeldTask) {
        self.finish(job, leads, job.dead(reason, error, self.now(), None), held).await;
    }

    /// Schedules the next attempt after one that ended like this.
    pub async fn retry(&self, job: &mut Job, leads: &[MemoKey], ending: AttemptEnding, wait: Duration, error: &str) {
        tracing::warn!(
            task = %job.id,
            queue = self.worker.name(),
            attempt = job.header.state.counted + job.header.state.uncounted,
            host = job.task.url.host_str().unwrap_or_default(),
            reason = ending.reason,
            error,
            wait_ms = millis(wait),
            trace_id = traces::trace_id(self.worker, job),
            "attempt failed, will retry"
        );
        let upstream = upstream_of(&job.task.url);
        self.worker.shared.metrics.attempts.retry(self.worker.name(), &upstream, ending);
        self.worker.queue.statistics.retry(&upstream);
        events::attempt_failed(self.worker, job, events::attempts_made(job));
        // The attempt ended without harm to its worker, so the task is not a suspect any more.
        job.header.crashes = 0;
        self.reschedule(job, leads, wait, UnixMs(0), RescheduleReason::Retried).await;
    }

    /// Reschedules a task before an attempt was made, uncounted.
    pub async fn defer(&self, job: &Job, leads: &[MemoKey], wait: Duration, not_before: UnixMs) {
        self.reschedule(job, leads, wait, not_before, RescheduleReason::Deferred).await;
    }

    /// Gives a task back whose call could not begin. What limits granted goes back, too.
    pub async fn give_back(&self, job: &Job, admission: Admission) {
        let Admission { leads, limits, .. } = admission;
        let wait = GIVE_BACK_WAIT.mul_f64(rand::random_range(0.5..1.5));
        limit::gate::refund(limits);
        self.defer(job, &leads, wait, UnixMs(0)).await;
    }

    /// The same for a task that was not parsed, because another suspect is running.
    pub async fn defer_unparsed(&self, entry: &Entry, wait: Duration) {
        self.write_rescheduled(&entry.token, None, &entry.header, (wait, UnixMs(0), None), RescheduleReason::Deferred)
            .await;
    }

    /// Gives a task back because the drain's deadline has passed: due at once and uncounted, unless a second call is forbidden.
    pub async fn release(&self, job: &Job, leads: &[MemoKey], held: HeldTask) {
        if job.task.effect == Effect::Once {
            let error = "the worker had to stop during the call, and effect \"once\" forbids a second one".into();
            return self.bury(job, leads, Reason::OutcomeUnknown, error, held).await;
        }
        if job.has_streamed() {
            let why = "the worker had to stop during the call";
            if job.task.on_break == OnBreak::Fail {
                return self.bury(job, leads, Reason::OutcomeUnknown, stream::broken(why), held).await;
            }
            stream::restart(self.worker, job, why).await;
        }
        self.reschedule(job, leads, Duration::ZERO, UnixMs(0), RescheduleReason::Released).await;
    }

    async fn reschedule(
        &self,
        job: &Job,
        leads: &[MemoKey],
        wait: Duration,
        not_before: UnixMs,
        reason: RescheduleReason,
    ) {
        let queue = &self.worker.queue;
        for key in leads {
            let _led = leader::lead(self.worker, job, key, wait.max(queue.clock.until(not_before))).await;
        }
        let until = not_before.max(queue.clock.now().plus(millis(wait)));
        events::waiting(self.worker, job, WaitCause::Time, None, Some(until));
        let header = job.header_at_rest(leads);
        let deadline = job.task.deadline(job.header.first_seen);
        self.write_rescheduled(&job.token, Some(&job.id), &header, (wait, not_before, deadline), reason).await;
    }

    async fn write_rescheduled(
        &self,
        token: &Token,
        id: Option<&TaskId>,
        header: &EntryHeader,
        (wait, not_before, deadline): (Duration, UnixMs, Option<UnixMs>),
        reason: RescheduleReason,
    ) {
        let queue = &self.worker.queue;
        let reschedule = || queue.consumer.reschedule(token, header, wait, not_before, deadline, reason);
        match queue.retry.retry_until_stored("reschedule", reschedule).await {
            Ok(Stored { value: Some(due), .. }) => {
                queue.wakeups.task_due_in(queue.clock.until(due));
                if let Some(deadline) = deadline {
                    queue.checks.due_in(queue.clock.until(deadline));
                }
            }
            Ok(Stored { value: None, resent }) => self.not_stored(id, resent),
            Err(why) => self.give_up(token, &why).await,
        }
    }

    /// Gives up the tasks whose story has just panicked.
    pub async fn give_up_panicked(&self, panic: &str) {
        for token in self.worker.queue.held.take_panicked() {
            tracing::error!(
                token = token.as_str(),
                queue = self.worker.name(),
                panic,
                "a task made this worker panic, which counts as a crash of the task; please report this as a bug"
            );
            self.give_back_as_crashed(&token).await;
        }
    }

    /// Gives up a task whose step Redis refuses.
    pub async fn give_up(&self, token: &Token, why: &NotStored) {
        if let NotStored::Refused(error) = why {
            tracing::error!(
                token = token.as_str(),
                queue = self.worker.name(),
                %error,
                "Redis refuses every way to end or keep this task: giving it up, which counts as a crash of the task"
            );
            self.give_back_as_crashed(token).await;
        }
    }

    async fn give_back_as_crashed(&self, token: &Token) {
        let QueueWorker { queue, shared } = self.worker;
        if refused::give_back_as_crashed(&queue.retry, &shared.metrics, &queue.consumer, token).await {
            queue.wakeups.task_due_in(refused::GIVE_UP_WAIT);
        }
    }

    /// The lease was lost before the call.
    pub fn lease_lost(&self, id: Option<&TaskId>) {
        self.not_stored(id, Resent::No);
    }

    /// The lease was lost during the call: another worker has the task, or it was cancelled. If it led a memo (see `execute.rs`: only
    /// if it was cancelled), the next task in the wait list makes the call. If a second call is forbidden, nobody knows whether the
    /// first one was carried out: then the lead ends by itself.
    pub async fn abandon(&self, job: &Job, leads: &[MemoKey]) {
        self.lease_lost(Some(&job.id));
        if leads.is_empty() || job.task.effect == Effect::Once {
            return;
        }
        let cancelled = job.dead(Reason::Cancelled, String::new(), self.now(), None);
        self.settle_leads(job, leads, cancelled).await;
    }

    /// Settles the memos that a task leads, and starts sharing their answers. Returns the result that counts.
    pub async fn settle_leads(&self, job: &Job, leads: &[MemoKey], result: TaskResult) -> TaskResult {
        let leader::SettledLeads { result, shares } = leader::settle(self.worker, job, leads, result).await;
        for share in shares {
            sharer::start(self.worker, share);
        }
        result
    }

    /// Ends an entry that is not a valid task.
    pub async fn bury_invalid(&self, invalid: InvalidJob) {
        self.bury_unopened(invalid, Vec::new()).await;
    }

    /// Ends a task that has had so many crashes that it is not parsed again.
    pub async fn bury_unparsed(&self, entry: Entry, crashes: u32) {
        let Entry { token, header, raw } = entry;
        // Reads some fields and skips over all others.
        let mut return_address = ReturnAddress::read(&raw);
        return_address.reply_to.take_if(|list| !self.worker.shared.config.rules.allow_reply_to(list));
        let error = TaskError { cause: InvalidTask::CrashesWorkers(crashes), return_address };
        let (serial, first_seen) = (header.serial, header.first_seen);
        let unopened = InvalidJob { token, serial, first_seen, error: Box::new(error) };
        self.bury_unopened(unopened, header.state.attempts).await;
    }

    async fn bury_unopened(&self, invalid: InvalidJob, attempts: Vec<Attempt>) {
        let result = invalid.result(self.now(), attempts);
        let letter = dead_letter_header(&invalid.serial, None, &result);
        let completion = invalid.completion(&result);
        let dead = DeadTask { token: &invalid.token, serial: &invalid.serial, trace_id: None };
        self.write_dead_letter(dead, &letter, result, completion.as_ref()).await;
    }

    async fn write_dead_letter(
        &self,
        DeadTask { token, serial, trace_id }: DeadTask<'_>,
        letter: &str,
        result: TaskResult,
        completion: Option<&Completion>,
    ) {
        let (consumer, retry) = (&self.worker.queue.consumer, &self.worker.queue.retry);
        let error = match retry.retry_until_stored("bury", || consumer.bury(token, letter, completion)).await {
            Ok(Stored { value: true, .. }) => {
                if let Some(completion) = completion {
                    wake_for_delivery(&self.worker.shared, self.worker.queue_name(), completion);
                }
                return self.report_dead(&result, trace_id.as_deref());
            }
            Ok(Stored { value: false, resent }) => return self.not_stored(result.id.as_ref(), resent),
            Err(NotStored::Aborted) => return,
            Err(NotStored::Refused(error)) => error,
        };
        let memo = refused::memo_of(letter);
        let id = result.id.clone();
        let refused = RefusedEnding { token, result, serial, memo: memo.as_deref(), completion, error: &error };
        match refused.bury(retry, Place::Held(consumer)).await {
            Ok(Some(result)) => self.report_dead(&result, trace_id.as_deref()),
            Ok(None) => self.not_stored(id.as_ref(), Resent::Yes),
            Err(why) => self.give_up(token, &why).await,
        }
    }

    /// Logs and counts a task that is dead now.
    pub fn report_dead(&self, result: &TaskResult, trace_id: Option<&str>) {
        if let Some(reason) = result.reason {
            self.worker.shared.metrics.dead(self.worker.name(), reason);
            self.worker.queue.statistics.dead(reason);
        }
        events::done(&self.worker.queue.events, result);
        tracing::warn!(
            task = result.id.as_ref().map_or("(no id)", TaskId::as_str),
            queue = self.worker.name(),
            attempts = result.attempts.len(),
            reason = result.reason.map_or("", Reason::as_str),
            error = result.error.as_deref().unwrap_or_default(),
            trace_id,
            "task is dead"
        );
    }

    fn not_stored(&self, id: Option<&TaskId>, resent: Resent) {
        report_not_stored(&self.worker.shared.metrics, self.worker.name(), id, resent);
    }

    fn now(&self) -> UnixMs {
        self.worker.queue.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::{never, size_of_returned};

    #[test]
    fn a_task_that_settles_its_memos_is_small() {
        // Each task with a memo holds one while Redis stores its answer.
        let settler = never::<&'static Settler<'static>>;
        let size = size_of_returned(|| settler().finish_success(never(), never(), never(), never()));
        assert!(size <= 4 << 10, "{size}");
    }
}
