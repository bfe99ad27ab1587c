//! What becomes of a task: each way out of a worker's hands, and its line in the log.

use std::time::Duration;

use redial::consumer::{Answer, Back, letter};
use redial::id::Token;
use redial::task::Effect;
use redial::{Reason, Status, TaskId, TaskResult, UnixMs};

use crate::call::Called;
use crate::finisher::Finished;
use crate::job::{Job, Unfit};
use crate::persist::persist_counting;
use crate::worker::{Lane, Slot, Worker};

/// Settles the tasks of one queue.
#[derive(Debug)]
pub struct Settler<'a> {
    worker: &'a Worker,
    lane: &'a Lane,
}

impl<'a> Settler<'a> {
    /// The settler of a queue.
    pub fn new(worker: &'a Worker, lane: &'a Lane) -> Self {
        Self { worker, lane }
    }

    /// A good answer: to the finisher, which writes many at once. The slot is held until Redis has it.
    pub fn complete(&self, job: &Job, called: Called, slot: Slot) {
        let result = job.result(Status::Ok, self.lane.clock.now(), Some(called));
        let finished = Finished { answer: answer(job, &result), slot };
        // The finisher ends only after every slot is free, so it can't be gone while one is held.
        let _ = self.lane.finisher.send(finished);
    }

    /// A failed attempt: again later.
    pub async fn retry(&self, job: &mut Job, called: &Called, wait: Duration, error: &str) {
        let reason = crate::metrics::failure_label(called);
        tracing::warn!(
            task = %job.id,
            queue = %self.lane.name,
            attempt = job.header.state.counted + job.header.state.parked,
            host = job.task.url.host_str().unwrap_or_default(),
            reason,
            error,
            wait_ms = crate::clock::ms(wait),
            "attempt failed, will retry"
        );
        self.worker.metrics.retry(&self.lane.name, reason);
        // The attempt came to an end without harm to its worker, whatever was suspected.
        job.header.crashes = 0;
        self.back(job, wait, UnixMs(0), Back::Retried).await;
    }

    /// No attempt yet: later, uncounted.
    pub async fn defer(&self, job: &Job, wait: Duration, not_before: UnixMs) {
        self.back(job, wait, not_before, Back::Deferred).await;
    }

    /// A drain's deadline: back at once and uncounted, unless a second call is forbidden.
    pub async fn give_back(&self, job: &Job) {
        if job.task.effect == Effect::Once {
            let error = "the worker had to stop during the call, and effect \"once\" forbids a second one".into();
            return self.bury(job, Reason::OutcomeUnknown, error, None).await;
        }
        self.back(job, Duration::ZERO, UnixMs(0), Back::Released).await;
    }

    async fn back(&self, job: &Job, wait: Duration, not_before: UnixMs, why: Back) {
        let mut header = job.header.clone();
        header.begun = false;
        let consumer = &self.lane.consumer;
        let done = persist_counting(self.worker, self.lane, "retry_at", || {
            consumer.retry_at(&job.token, &header, wait, not_before, why)
        })
        .await;
        match done {
            Some((Some(due), _)) => self.worker.scheduled_in(self.lane.clock.until(due)),
            Some((None, again)) => lost(self.worker, self.lane, Some(&job.id), again),
            None => {}
        }
    }

    /// No good answer, and no further attempt.
    pub async fn bury(&self, job: &Job, reason: Reason, error: String, last: Option<Called>) {
        let result = job.dead(reason, error, self.lane.clock.now(), last);
        let answer = answer(job, &result);
        self.write_dead(&job.token, &job.header.serial, &result, Some(&answer)).await;
    }

    /// What was pushed is no task.
    pub async fn refuse(&self, unfit: Unfit) {
        let Unfit { token, serial, refusal } = unfit;
        let mut result = TaskResult::new(refusal.id.clone(), Status::Dead, self.lane.clock.now());
        result.reason = Some(refusal.reason);
        result.error = Some(refusal.error.clone());
        let answer = refusal.id.clone().map(|id| Answer {
            token: token.clone(),
            id,
            result: result.to_line(),
            ttl: redial::task::RESULT_TTL,
            reply_to: refusal.reply_to.clone(),
        });
        self.write_dead(&token, &serial, &result, answer.as_ref()).await;
    }

    async fn write_dead(&self, token: &Token, serial: &str, result: &TaskResult, answer: Option<&Answer>) {
        let consumer = &self.lane.consumer;
        let letter = letter(serial, result);
        match persist_counting(self.worker, self.lane, "bury", || consumer.bury(token, &letter, answer)).await {
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
    tracing::warn!(task = name(id), queue = %lane.name, "lease lost: another worker has the task, nothing was written");
}

fn name(id: Option<&TaskId>) -> &str {
    id.map_or("(no id)", TaskId::as_str)
}

fn answer(job: &Job, result: &TaskResult) -> Answer {
    Answer {
        token: job.token.clone(),
        id: job.id.clone(),
        result: result.to_line(),
        ttl: job.task.result_ttl,
        reply_to: job.task.reply_to.clone(),
    }
}
