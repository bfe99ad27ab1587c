//! Takes over what others left: tasks of workers whose lease has ended, entries in this worker's name that it does not know,
//! undelivered replies, and wait lists that nobody drains.

use std::collections::HashSet;
use std::time::Instant;

use redial_core::WorkerId;
use redial_core::consumer::{DueCheck, MAX_BATCH, ParkedTasks, TakenBack, WaitReason};
use redial_core::protocol::id::Token;
use tokio::task::JoinHandle;

use super::queue_worker::QueueWorker;
use crate::breaker::drain::drain_when_up;
use crate::memo::sharer;

/// Sweeps one queue, a little at each heartbeat. What fails is left for the next one.
#[derive(Debug)]
pub struct Sweeper {
    worker: QueueWorker,
    /// After an outage of Redis every lease has ended: living workers get the time of one lease to renew theirs.
    reap_after: Instant,
    /// Strays at the last heartbeat. One that is there again is no coincidence.
    suspected_strays: HashSet<Token>,
    /// Undelivered replies at the last heartbeat, likewise.
    suspected_replies: HashSet<Token>,
    /// The last check of wait lists, while it runs.
    wait_list_check: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// A sweeper that has seen nothing yet.
    pub fn new(worker: QueueWorker) -> Self {
        Self {
            worker,
            reap_after: Instant::now(),
            suspected_strays: HashSet::new(),
            suspected_replies: HashSet::new(),
            wait_list_check: None,
        }
    }

    /// Reaps nothing for the time of one lease.
    pub fn postpone_reaping(&mut self) {
        self.reap_after = Instant::now() + self.worker.shared.config.lease;
    }

    /// Takes back every task of a worker whose lease has ended.
    pub async fn reap(&self, ended: &WorkerId) {
        if Instant::now() < self.reap_after {
            return;
        }
        let mut tasks = 0;
        while let Ok(TakenBack { moved, remaining }) = self.worker.queue.consumer.reap(ended).await {
            tasks += moved;
            if remaining == 0 || moved == 0 {
                break;
            }
        }
        if tasks > 0 {
            tracing::warn!(queue = self.worker.name(), ended = %ended, tasks, "the lease of a worker has ended: took back its tasks");
            self.worker.shared.metrics.reaped(self.worker.name(), tasks);
            self.worker.queue.wakeups.wake();
        }
    }

    /// Compares the tasks that Redis has in this worker's name with those that it holds. A task that Redis does not have was cancelled,
    /// or another worker has it: its call is aborted. A task that this worker does not hold is given back: Redis lost a write when it
    /// crashed. That has to be seen at two heartbeats in a row, since a claim or a completion may be under way.
    pub async fn reconcile(&mut self, held: usize) {
        let ours = &self.worker.queue.held;
        // Both are read before asking Redis, so that what is claimed from here on is not among them.
        let registered_claims = ours.registered_claims();
        let our_tokens = ours.tokens();
        if held == 0 && our_tokens.is_empty() {
            self.suspected_strays.clear();
            return;
        }
        let consumer = &self.worker.queue.consumer;
        let Ok(tokens) = consumer.held_tokens().await else {
            return;
        };
        let tokens: HashSet<Token> = tokens.into_iter().collect();
        ours.mark_lost(our_tokens.into_iter().filter(|token| !tokens.contains(token)));
        let is_stray = |token: &Token| {
            token.claim_number().is_none_or(|number| number < registered_claims) && !ours.contains(token)
        };
        let suspects: HashSet<Token> = tokens.into_iter().filter(is_stray).collect();
        let strays: Vec<Token> = suspects.intersection(&self.suspected_strays).take(MAX_BATCH).cloned().collect();
        self.suspected_strays = suspects;
        if !strays.is_empty() && consumer.release_strays(&strays).await.is_ok() {
            let tasks = strays.len();
            tracing::warn!(
                queue = self.worker.name(),
                tasks,
                "Redis lost a write when it crashed: these tasks run again"
            );
            self.worker.queue.wakeups.wake();
        }
    }

    /// Checks the wait lists whose tasks have waited for long, and the parked tasks whose deadline has passed.
    pub fn check_wait_lists(&mut self, watched: usize) {
        if watched == 0 || self.wait_list_check.as_ref().is_some_and(|check| !check.is_finished()) {
            return;
        }
        // A task of its own: a heartbeat must not wait for it.
        self.wait_list_check = Some(tokio::spawn(check_wait_lists(self.worker.clone())));
    }

    /// Delivers replies to lists in another Cluster slot if the worker that finished their tasks could not.
    pub async fn deliver_replies(&mut self, undelivered: usize) {
        if undelivered == 0 {
            self.suspected_replies.clear();
            return;
        }
        let Ok(tokens) = self.worker.queue.consumer.undelivered().await else {
            return;
        };
        let tokens: HashSet<Token> = tokens.into_iter().collect();
        for token in tokens.intersection(&self.suspected_replies) {
            if let Err(error) = self.worker.redis_queue().deliver_reply(token).await {
                tracing::warn!(queue = self.worker.name(), %error, "could not deliver a reply; the next heartbeat tries again");
            }
        }
        self.suspected_replies = tokens;
    }
}

async fn check_wait_lists(worker: QueueWorker) {
    let Ok(due) = worker.queue.consumer.due_checks(worker.shared.config.lease).await else { return };
    for DueCheck { list, task } in due {
        if task.is_some() {
            let parked = ParkedTasks::new(worker.redis_queue().clone(), &list);
            sharer::unpark(&worker, &parked, task.as_ref()).await;
            continue;
        }
        match list.reason {
            WaitReason::Memo => sharer::check_on(&worker, &list.name).await,
            WaitReason::Breaker => drain_when_up(&worker, &list.name),
        }
    }
}
