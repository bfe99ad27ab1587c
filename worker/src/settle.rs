//! What becomes of a task: each way out of a worker's hands, and its line in the log.

use std::sync::Arc;
use std::time::Duration;

use redial_core::consumer::{Completion, ParkedTasks, RescheduleReason, WaitList, dead_letter_header};
use redial_core::memo::{KeptAnswer, LeadDecision, MemoKey, MemoPurpose};
use redial_core::protocol::follow_ups;
use redial_core::protocol::id::Token;
use redial_core::protocol::task::Effect;
use redial_core::{Reason, Status, TaskId, TaskResult, UnixMs};

use crate::call::Called;
use crate::finisher::Finished;
use crate::job::{Job, Unfit};
use crate::leader;
use crate::line;
use crate::persist::{persist, persist_counting};
use crate::sharer;
use crate::worker::{Lane, Slot, Worker};

/// How long a task that waits in a line keeps the memos that it leads: no one knows how long it will wait.
const IN_LINE: Duration = Duration::from_secs(24 * 3600);

/// Settles the tasks of one queue.
#[derive(Debug)]
pub struct Settler<'a> {
    worker: &'a Arc<Worker>,
    lane: &'a Arc<Lane>,
}

impl<'a> Settler<'a> {
    /// The settler of a queue.
    pub fn new(worker: &'a Arc<Worker>, lane: &'a Arc<Lane>) -> Self {
        Self { worker, lane }
    }

    /// The result of a good answer.
    pub fn good(&self, job: &Job, called: Called) -> TaskResult {
        job.result(Status::Ok, self.lane.clock.now(), Some(called))
    }

    /// A good answer: to the finisher, which writes many at once. The slot is held until Redis has it.
    pub fn complete(&self, job: &Job, result: &TaskResult, slot: Slot) {
        let finished = Finished { answer: job.answer(result), slot };
        // The finisher ends only after every slot is free, so it can't be gone while one is held.
        let _ = self.lane.finisher.send(finished);
    }

    /// The end of a task, good or not. Its memos are settled first: should this worker die before the task itself is answered,
    /// its next delivery finds the answer there.
    pub async fn end(&self, job: &Job, mut result: TaskResult, slot: Slot) {
        if !job.leads.is_empty() {
            result = leader::settle(self.worker, self.lane, job, result).await;
        }
        match result.status {
            Status::Ok => self.complete(job, &result, slot),
            Status::Dead => {
                let answer = job.answer(&result);
                let dead_letter_header = job.letter(&result, &self.worker.config.upstreams.headers_for(&job.task));
                self.write_dead(&job.token, &dead_letter_header, &result, Some(&answer)).await;
            }
        }
    }

    /// An answer that a memo kept.
    pub async fn answer_from(&self, job: &Job, kept: &KeptAnswer, purpose: MemoPurpose, slot: Slot) {
        let result = job.result_from(kept, purpose, self.lane.clock.now());
        self.end(job, result, slot).await;
    }

    /// Another task makes the call. This one is parked behind it; and then the memo is looked at again, in case the other one
    /// has come to its end in that very moment.
    pub async fn follow(&self, job: &Job, key: &MemoKey) {
        let line = key.wait_list();
        if !self.wait_in(job, &line).await {
            return;
        }
        let memos = &self.lane.memos;
        let look = || memos.recheck(key, job.delivery(self.lane.consumer.queue().name()), job.max_age(key.purpose));
        match persist(self.worker, self.lane, "look", look).await {
            Some(LeadDecision::Follow) | None => {
                tracing::debug!(task = %job.id, queue = %self.lane.name, "waits for the answer of another task's call");
            }
            Some(_) => {
                let followers = ParkedTasks::new(self.lane.consumer.queue().clone(), &line);
                sharer::promote(self.worker, &followers, Some(&job.header.parked_token())).await;
            }
        }
    }

    /// The upstream is down: the task waits in its line, which this worker looks after from now on.
    pub async fn wait_for_upstream(&self, job: &Job, wait: Duration) {
        let upstream = crate::breaker::upstream_of(&job.task.url);
        if self.wait_in(job, &WaitList::breaker(&upstream)).await {
            tracing::debug!(task = %job.id, queue = %self.lane.name, upstream, wait_ms = crate::clock::ms(wait), "waits for its upstream");
            line::tend(self.worker, self.lane, &upstream);
        }
    }

    /// Parks a task in a line, where it waits in Redis and uses no attempt. Whoever parks it must look after the line from then
    /// on, since what it waits for may have come in this very moment. `false`: it is out of this worker's hands.
    async fn wait_in(&self, job: &Job, line: &WaitList) -> bool {
        for key in &job.leads {
            leader::lead(self.worker, self.lane, job, key, IN_LINE).await;
        }
        let header = job.header_at_rest();
        let deadline = job.task.deadline(job.header.first_seen);
        let (consumer, look_in) = (&self.lane.consumer, self.worker.config.lease);
        let parked = persist_counting(self.worker, self.lane, "follow", || {
            consumer.park(&job.token, &header, line, look_in, deadline)
        });
        match parked.await {
            Some((true, _) | (false, true)) => true,
            Some((false, false)) => {
                lost(self.worker, self.lane, Some(&job.id), false);
                false
            }
            None => false,
        }
    }

    /// A failed attempt: again later.
    pub async fn retry(&self, job: &mut Job, called: &Called, wait: Duration, error: &str) {
        let reason = crate::metrics::failure_label(called);
        tracing::warn!(
            task = %job.id,
            queue = %self.lane.name,
            attempt = job.header.state.counted + job.header.state.uncounted,
            host = job.task.url.host_str().unwrap_or_default(),
            reason,
            error,
            wait_ms = crate::clock::ms(wait),
            "attempt failed, will retry"
        );
        self.worker.metrics.retry(&self.lane.name, reason);
        // The attempt came to an end without harm to its worker, whatever was suspected.
        job.header.crashes = 0;
        self.back(job, wait, UnixMs(0), RescheduleReason::Retried).await;
    }

    /// No attempt yet: later, uncounted.
    pub async fn defer(&self, job: &Job, wait: Duration, not_before: UnixMs) {
        self.back(job, wait, not_before, RescheduleReason::Deferred).await;
    }

    /// A drain's deadline: back at once and uncounted, unless a second call is forbidden.
    pub async fn give_back(&self, job: &Job, slot: Slot) {
        if job.task.effect == Effect::Once {
            let error = "the worker had to stop during the call, and effect \"once\" forbids a second one".into();
            return self.bury(job, Reason::OutcomeUnknown, error, None, slot).await;
        }
        self.back(job, Duration::ZERO, UnixMs(0), RescheduleReason::Released).await;
    }

    async fn back(&self, job: &Job, wait: Duration, not_before: UnixMs, why: RescheduleReason) {
        for key in &job.leads {
            leader::lead(self.worker, self.lane, job, key, wait.max(self.lane.clock.until(not_before))).await;
        }
        let header = job.header_at_rest();
        let consumer = &self.lane.consumer;
        let done = persist_counting(self.worker, self.lane, "retry_at", || {
            consumer.reschedule(&job.token, &header, wait, not_before, why)
        })
        .await;
        match done {
            Some((Some(due), _)) => self.worker.scheduled_in(self.lane.clock.until(due)),
            Some((None, again)) => lost(self.worker, self.lane, Some(&job.id), again),
            None => {}
        }
    }

    /// No good answer, and no further attempt.
    pub async fn bury(&self, job: &Job, reason: Reason, error: String, last: Option<Called>, slot: Slot) {
        let result = job.dead(reason, error, self.lane.clock.now(), last);
        self.end(job, result, slot).await;
    }

    /// The lease went during the call: another worker has the task, or it was cancelled. Where it led (see `execute.rs`: only when it was
    /// cancelled), the next in line makes the call. Of one that may not be made twice no one knows what became of it: there the lead
    /// ends by itself.
    pub async fn give_up(&self, job: &Job) {
        lost(self.worker, self.lane, Some(&job.id), false);
        if job.leads.is_empty() || job.task.effect == Effect::Once {
            return;
        }
        let cancelled = job.dead(Reason::Cancelled, String::new(), self.lane.clock.now(), None);
        leader::settle(self.worker, self.lane, job, cancelled).await;
    }

    /// What was pushed is no task.
    pub async fn refuse(&self, unfit: Unfit) {
        let Unfit { token, serial, refusal } = unfit;
        let mut result = TaskResult::new(refusal.return_address.id.clone(), Status::Dead, self.lane.clock.now());
        result.reason = Some(refusal.reason());
        result.error = Some(refusal.to_string());
        let answer = refusal.return_address.id.clone().map(|id| Completion {
            token: token.clone(),
            id,
            result: result.to_line(),
            ttl: redial_core::protocol::task::RESULT_TTL,
            reply_to: refusal.return_address.reply_to.clone(),
            follow_ups: follow_ups::follow_ups_of_invalid(&refusal, &result),
        });
        self.write_dead(&token, &dead_letter_header(&serial, None, &result), &result, answer.as_ref()).await;
    }

    async fn write_dead(
        &self,
        token: &Token,
        dead_letter_header: &str,
        result: &TaskResult,
        answer: Option<&Completion>,
    ) {
        let consumer = &self.lane.consumer;
        match persist_counting(self.worker, self.lane, "bury", || consumer.bury(token, dead_letter_header, answer))
            .await
        {
            Some((true, _)) => self.log_dead(result),
            Some((false, again)) => lost(self.worker, self.lane, result.id.as_ref(), again),
            None => {}
        }
    }

    fn log_dead(&self, result: &TaskResult) {
        if let Some(reason) = result.reason {
            self.worker.metrics.dead(&self.lane.name, reason);
        }
        tracing::warn!(
            task = name(result.id.as_ref()),
            queue = %self.lane.name,
            attempts = result.attempts.len(),
            reason = result.reason.map_or("", Reason::as_str),
            error = result.error.as_deref().unwrap_or_default(),
            "task is dead"
        );
    }
}

/// Redis did not take it. The lease ran out meanwhile and the task is another worker's; or, when it was sent again because
/// no answer came, Redis had taken it the first time.
pub fn lost(worker: &Worker, lane: &Lane, id: Option<&TaskId>, sent_again: bool) {
    if sent_again {
        tracing::info!(task = name(id), queue = %lane.name, "sent again after no answer came: Redis had taken it, or the lease was lost meanwhile");
        return;
    }
    worker.metrics.lost_lease(&lane.name);
    tracing::warn!(task = name(id), queue = %lane.name, "lease lost: another worker has the task, or it was cancelled; nothing was written");
}

fn name(id: Option<&TaskId>) -> &str {
    id.map_or("(no id)", TaskId::as_str)
}
