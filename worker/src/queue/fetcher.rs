//! Fills free slots with tasks: first a slot, then a claim, then a task of its own. When idle it sleeps until a push, or until
//! something is due; nothing is polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::Error;
use redial_core::consumer::{ClaimId, Claimed, MAX_BATCH};
use redial_core::db::BLOCK_TIMEOUT;
use redial_core::protocol::id::Token;
use redial_core::protocol::task::{InvalidTask, ReturnAddress, TaskError};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use super::held_tasks::Slots;
use super::push_listener::{Phase, PushListener, PushState};
use super::queue_worker::QueueWorker;
use super::redis_retry::RetryWaits;
use super::rotation::Rotation;
use crate::observe::health::Health;
use crate::task::execute::execute;
use crate::task::job::InvalidJob;
use crate::task::settle::Settler;

/// Claims tasks from all queues of a worker.
#[derive(Debug)]
pub struct Fetcher {
    slots: Slots,
    health: Arc<Health>,
    rotation: Rotation,
    claims: Vec<QueueClaims>,
}

/// The claims from one queue. After a failed claim the queue is left alone for a while, so that it delays the others by one command's
/// time at most.
#[derive(Debug)]
struct QueueClaims {
    worker: QueueWorker,
    pushes: Arc<PushState>,
    /// The number of the next claim.
    next_claim: u64,
    /// When a scheduled task is due, or a failed claim may be repeated.
    look_again: Option<Instant>,
    /// Set while claims fail.
    failing: Option<RetryWaits>,
}

/// The push listeners of a fetcher that has ended. Redis may still hand a push to one of them, until they end.
#[derive(Debug)]
pub struct EndedFetcher {
    workers: Vec<QueueWorker>,
    listeners: JoinSet<()>,
}

impl Fetcher {
    /// A fetcher for these queues, each with its weight.
    pub fn new(queues: Vec<(QueueWorker, u32)>, slots: Slots, health: Arc<Health>) -> Self {
        let rotation = Rotation::new(queues.iter().map(|(_, weight)| *weight));
        let claims = queues.into_iter().map(|(worker, _)| QueueClaims::new(worker)).collect();
        Self { slots, health, rotation, claims }
    }

    /// Runs until the worker stops claiming.
    pub async fn run(mut self) -> EndedFetcher {
        let (turn, phase) = watch::channel(Phase::default());
        let mut listeners = JoinSet::new();
        for claims in &self.claims {
            let (worker, pushes) = (claims.worker.clone(), claims.pushes.clone());
            listeners.spawn(PushListener { worker, pushes, slots: self.slots.clone(), phase: phase.clone() }.run());
        }
        while let Some(mut free) = self.free_slots().await {
            self.claim_all(&mut free).await;
            if !free.is_empty() {
                // Slots are left, so every queue has given all that it has.
                drop(free);
                self.sleep(&turn).await;
            }
        }
        for claims in &self.claims {
            claims.pushes.forward_pending(&claims.worker).await;
        }
        EndedFetcher { workers: self.claims.into_iter().map(|claims| claims.worker).collect(), listeners }
    }

    /// Waits for a free slot, then takes all that are free, up to a batch; `None` when the worker stops claiming.
    async fn free_slots(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            biased;
            () = self.worker().shared.stop.cancelled() => return None,
            slot = self.slots.acquire() => slot?,
        };
        let mut free = vec![first];
        while free.len() < MAX_BATCH {
            match self.slots.try_acquire() {
                Some(slot) => free.push(slot),
                None => break,
            }
        }
        Some(free)
    }

    /// Claims from each queue in turn while slots are free.
    async fn claim_all(&mut self, free: &mut Vec<OwnedSemaphorePermit>) {
        // What is scheduled from here on may be missed by the claims below, so it has to wake the fetcher.
        self.worker().shared.wakeups.set_next_due(None);
        let woken: Vec<usize> = (0..self.claims.len()).filter(|at| self.claims[*at].pushes.take_pending()).collect();
        for at in self.rotation.next_order() {
            if !free.is_empty() {
                self.claims[at].fill(free, &self.slots, &self.health).await;
            }
        }
        if free.is_empty() {
            // The push that woke this worker may not have been claimed, for want of slots: another worker should hear of it.
            for at in woken {
                self.claims[at].pushes.forward_wakeup(&self.claims[at].worker).await;
            }
        }
    }

    /// Sleeps until a push, until it is time to look again, or as long as a blocked connection would at most.
    async fn sleep(&self, turn: &watch::Sender<Phase>) {
        let look_again = self.claims.iter().filter_map(|claims| claims.look_again).min();
        let shared = &self.worker().shared;
        shared.wakeups.set_next_due(look_again);
        turn.send_modify(Phase::advance);
        // Redis decides what is due by its own clock in whole milliseconds; ours may be a fraction ahead.
        let wait = look_again
            .map_or(BLOCK_TIMEOUT, |at| at.saturating_duration_since(Instant::now()).min(BLOCK_TIMEOUT))
            + Duration::from_millis(1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.wakeups.woken() => {}
            () = shared.stop.cancelled() => {}
        }
        turn.send_modify(Phase::advance);
    }

    /// Any of the queues, for what they share. The configuration ensures that there is one.
    fn worker(&self) -> &QueueWorker {
        &self.claims[0].worker
    }
}

impl QueueClaims {
    fn new(worker: QueueWorker) -> Self {
        Self { worker, pushes: Arc::default(), next_claim: 0, look_again: None, failing: None }
    }

    /// Claims as many tasks as there are free slots, and starts them. A failed claim is repeated under the same number: if it was
    /// executed and only its reply was lost, its tasks are not.
    async fn fill(&mut self, free: &mut Vec<OwnedSemaphorePermit>, slots: &Slots, health: &Health) {
        if self.failing.is_some() && self.look_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let queue = &self.worker.queue;
        let id = ClaimId::new(queue.consumer.worker(), self.next_claim);
        match queue.consumer.claim(&id, free.len()).await {
            Ok(claimed) => {
                queue.retry.succeeded();
                health.claim_answered();
                queue.clock.sync(claimed.now);
                self.worker.shared.metrics.claimed(self.worker.name(), claimed.entries.len());
                self.failing = None;
                self.pushes.set_paused(claimed.paused, self.worker.name());
                self.look_again = claimed.next_due.map(|due| Instant::now() + queue.clock.until(due));
                start_all(&self.worker, claimed, free, slots).await;
                // Only now that all are registered, or the sweeper would take them for strays.
                self.next_claim += 1;
                self.worker.queue.held.set_registered_claims(self.next_claim);
            }
            Err(error) => {
                queue.retry.failed("claim", &error);
                let wait = self.failing.get_or_insert_default().next_wait();
                self.look_again = Some(Instant::now() + wait);
            }
        }
    }
}

impl EndedFetcher {
    /// Ends the push listeners, and forwards what Redis handed to them at the last moment, of which nobody here would hear.
    pub async fn end_listeners(mut self) {
        self.listeners.shutdown().await;
        for worker in &self.workers {
            if let Err(error) = worker.queue.consumer.forward_wakeup().await {
                tracing::debug!(%error, queue = worker.name(), "another worker may find a push only at its next look");
            }
        }
    }
}

async fn start_all(worker: &QueueWorker, claimed: Claimed, free: &mut Vec<OwnedSemaphorePermit>, slots: &Slots) {
    for (token, error) in claimed.unreadable {
        tokio::spawn(bury_unreadable(worker.clone(), token, error));
    }
    for entry in claimed.entries {
        // A repeated claim may bring more tasks than this one asked for.
        let slot = match free.pop() {
            Some(slot) => slot,
            None => match slots.acquire().await {
                Some(slot) => slot,
                None => return,
            },
        };
        let held = worker.hold(&entry.token, slot);
        tokio::spawn(execute(worker.clone(), entry, held));
    }
}

/// An entry that cannot be read must not stop the others: it becomes a dead letter with all its bytes.
async fn bury_unreadable(worker: QueueWorker, token: Token, error: Error) {
    tracing::error!(queue = worker.name(), %error, "an entry cannot be read");
    let cause = InvalidTask::UnreadableEntry(error.to_string());
    let error = TaskError { cause, return_address: ReturnAddress::default() };
    let serial = token.as_str().to_owned();
    let first_seen = worker.queue.clock.now();
    let invalid = InvalidJob { token, serial, first_seen, error: Box::new(error) };
    Settler::new(&worker).bury_invalid(invalid).await;
}
