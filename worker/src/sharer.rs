//! Gives the followers of a memo its answer: by the worker that has it, without a slot and without a call.

use std::sync::Arc;
use std::time::Duration;

use redial_core::consumer::{Completion, MAX_BATCH, ParkedPage, ParkedTasks, WaitList};
use redial_core::memo::{KeptAnswer, LeadDecision, MemoPurpose};
use redial_core::protocol::id::Token;
use redial_core::queue::entry::Entry;
use redial_core::{QueueName, Reason, Status, TaskResult};

use crate::job::Job;
use crate::leader;
use crate::metrics::MemoEvent;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

/// The most bytes of answers that are on their way to Redis at a time.
const MAX_BYTES: usize = 4 << 20;

/// Begins to give `kept` to the followers of a memo in these queues.
pub fn start(worker: &Arc<Worker>, lane: &Arc<Lane>, hash: &str, kept: KeptAnswer, queues: Vec<QueueName>) {
    if queues.is_empty() {
        return;
    }
    let sharer = Sharer { worker: worker.clone(), lane: lane.clone(), kept };
    let behind = WaitList::memo(hash);
    worker.sharing.spawn(async move {
        for queue in queues {
            let followers = ParkedTasks::new(sharer.lane.consumer.queue().db().queue(queue), &behind);
            sharer.share(&followers).await;
        }
    });
}

/// Looks after a memo whose followers have waited for a while: its leader may be gone, or whoever was to share its answer.
pub async fn look_after(worker: &Arc<Worker>, lane: &Arc<Lane>, hash: &str) {
    let followers = ParkedTasks::new(lane.consumer.queue().clone(), &WaitList::memo(hash));
    // Also forgets those that are gone.
    let Ok(ParkedPage { left: 1.., .. }) = followers.next(1).await else { return };
    let own = vec![lane.consumer.queue().name().clone()];
    match lane.memos.check_on_leader(hash, lane.consumer.queue().name()).await {
        Ok(LeadDecision::Answer(kept)) => start(worker, lane, hash, *kept, own),
        Ok(LeadDecision::Unknown) => {
            let mut result = TaskResult::new(None, Status::Dead, lane.clock.now());
            result.reason = Some(Reason::OutcomeUnknown);
            result.error = Some(leader::UNKNOWN.into());
            start(worker, lane, hash, KeptAnswer { result, by: String::new() }, own);
        }
        Ok(LeadDecision::Free) => promote(worker, &followers, None).await,
        Ok(LeadDecision::Follow) => match lane.memos.end_lead_of_parked(hash, &followers).await {
            Ok(true) => promote(worker, &followers, None).await,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "a memo will be looked after later"),
        },
        Ok(LeadDecision::Lead | LeadDecision::Mismatch) => {}
        Err(error) => tracing::debug!(%error, "a memo will be looked after later"),
    }
}

/// Lets a follower run. What fails is left for the next look.
pub async fn promote(worker: &Worker, followers: &ParkedTasks, who: Option<&Token>) {
    match followers.unpark(who).await {
        Ok(true) => worker.scheduled_in(Duration::ZERO),
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "a follower will be looked after later"),
    }
}

/// One answer on its way to those who wait for it.
struct Sharer {
    worker: Arc<Worker>,
    lane: Arc<Lane>,
    kept: KeptAnswer,
}

impl Sharer {
    async fn share(&self, followers: &ParkedTasks) {
        let bytes = self.kept.result.to_line().len();
        let most = (MAX_BYTES / bytes.max(1)).clamp(1, MAX_BATCH);
        loop {
            match self.persist("followers", || followers.next(most)).await {
                None | Some(ParkedPage { left: 0, .. }) => return,
                Some(page) => self.answer(followers, page).await,
            }
            if self.worker.abort.is_cancelled() {
                return;
            }
        }
    }

    async fn answer(&self, followers: &ParkedTasks, page: ParkedPage) {
        let mut not_so = page.unreadable;
        let mut results = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            match self.result(entry) {
                Ok(answered) => results.push(answered),
                Err(token) => not_so.push(token),
            }
        }
        // Whoever can't be answered from here goes the usual way.
        for token in not_so {
            self.persist("promote", || followers.unpark(Some(&token))).await;
            self.worker.scheduled_in(Duration::ZERO);
        }
        match self.kept.result.status {
            Status::Ok => self.finish(followers, results).await,
            Status::Dead => self.bury(followers, results).await,
        }
    }

    /// A follower's result, or its token where this answer is not for it: it leads another memo as well, or wants an answer
    /// that is fresher.
    fn result(&self, entry: Entry) -> Result<(Job, TaskResult), Token> {
        let token = entry.token.clone();
        let job = Job::open(entry, self.worker.config.max_task_bytes).map_err(|_| token.clone())?;
        if job.task.idempotency_key.is_some() && job.task.cache_ttl.is_some() {
            return Err(token);
        }
        let purpose = purpose(&job);
        let made_at = self.kept.result.finished_at_ms;
        let now = self.lane.clock.now();
        let fresh = made_at >= job.header.first_seen
            || job.max_age(purpose).is_none_or(|max| u128::from(now.since(made_at)) < max.as_millis());
        if !fresh {
            return Err(token);
        }
        let result = job.result_from(&self.kept, purpose, now);
        Ok((job, result))
    }

    async fn finish(&self, followers: &ParkedTasks, results: Vec<(Job, TaskResult)>) {
        if results.is_empty() {
            return;
        }
        let answers: Vec<Completion> = results.iter().map(|(job, result)| job.answer(result)).collect();
        let done = self.persist("finish", || followers.finish(&answers)).await.unwrap_or_default();
        let queue = followers.queue().name().as_str();
        for ((job, _), _) in results.iter().zip(done).filter(|(_, done)| *done) {
            self.worker.metrics.complete(queue);
            self.count(queue, job);
            tracing::debug!(task = %job.id, queue, "answered with its leader's answer");
        }
    }

    async fn bury(&self, followers: &ParkedTasks, results: Vec<(Job, TaskResult)>) {
        let queue = followers.queue().name().as_str();
        for (job, result) in results {
            let letter = job.letter(&result, &self.worker.config.upstreams.headers_for(&job.task));
            let answer = job.answer(&result);
            if self.persist("bury", || followers.bury(&job.token, &letter, &answer)).await == Some(true) {
                self.worker.metrics.dead(queue, result.reason.unwrap_or(Reason::AttemptsExhausted));
                self.count(queue, &job);
                tracing::warn!(task = %job.id, queue, error = result.error.as_deref().unwrap_or_default(), "task is dead, as its leader is");
            }
        }
    }

    fn count(&self, queue: &str, job: &Job) {
        self.worker.metrics.memo(queue, purpose(job), MemoEvent::Shared);
    }

    async fn persist<T, F: Future<Output = Result<T, redial_core::Error>>>(
        &self,
        what: &'static str,
        attempt: impl FnMut() -> F,
    ) -> Option<T> {
        persist(&self.worker, &self.lane, what, attempt).await
    }
}

/// What a follower of one memo follows it for.
fn purpose(job: &Job) -> MemoPurpose {
    if job.task.idempotency_key.is_some() { MemoPurpose::Idempotency } else { MemoPurpose::Cache }
}
