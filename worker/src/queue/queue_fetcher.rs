//! Fills free slots with the tasks of one queue: first a slot, then a claim, then a task of its own. When the queue has nothing to give,
//! its fetcher sleeps until a push, or until something is due; nothing is polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::Error;
use redial_core::consumer::{ClaimId, Claimed};
use redial_core::db::BLOCK_TIMEOUT;
use redial_core::protocol::id::Token;
use redial_core::protocol::task::{InvalidTask, ReturnAddress, TaskError};
use tokio::sync::OwnedSemaphorePermit;

use super::push_listener::PushListener;
use super::queue_worker::QueueWorker;
use super::redis_retry::RetryWaits;
use super::slot_allocator::SlotAllocator;
use crate::observe::health::Health;
use crate::task::execute::execute;
use crate::task::job::InvalidJob;
use crate::task::settle::Settler;

/// A claim that is not answered for this long gives its slots back to the other queues. It is longer than an answer takes from 200 ms
/// away.
const SLOT_PATIENCE: Duration = Duration::from_millis(500);

/// Claims tasks from one queue.
#[derive(Debug)]
pub struct QueueFetcher {
    /// The queue's position among those of the worker.
    position: usize,
    worker: QueueWorker,
    allocator: Arc<SlotAllocator>,
    health: Arc<Health>,
    listener: PushListener,
    /// The number of the next claim.
    next_claim: u64,
    /// There may be something to claim now.
    is_hungry: bool,
    /// A push has woken this worker, and its task may not have been claimed yet.
    is_woken: bool,
    is_paused: bool,
    /// When to claim again at the latest: a task is due, or a failed claim may be repeated.
    look_again: Instant,
    /// Set while claims fail.
    failing: Option<RetryWaits>,
}

impl QueueFetcher {
    /// A fetcher that has not claimed yet.
    pub fn new(position: usize, worker: QueueWorker, allocator: Arc<SlotAllocator>, health: Arc<Health>) -> Self {
        Self {
            position,
            listener: PushListener::new(worker.clone()),
            worker,
            allocator,
            health,
            next_claim: 0,
            is_hungry: true,
            is_woken: false,
            is_paused: false,
            look_again: Instant::now(),
            failing: None,
        }
    }

    /// Runs until the worker stops claiming.
    pub async fn run(mut self) {
        let stop = self.worker.shared.stop.clone();
        while !stop.is_cancelled() {
            if self.failing.is_some() {
                self.wait_to_retry().await;
            } else if !self.is_hungry {
                self.sleep().await;
            } else if let Some(slots) = self.acquire_slots().await {
                self.claim(slots).await;
            }
        }
        if self.is_woken {
            self.listener.forward_wakeup().await;
        }
        self.listener.end().await;
    }

    /// Repeats a failed claim after a while, without occupying slots meanwhile: it takes nothing more, and shows whether Redis answers.
    async fn wait_to_retry(&mut self) {
        tokio::select! {
            biased;
            () = self.worker.shared.stop.cancelled() => {}
            () = tokio::time::sleep_until(self.look_again.into()) => self.claim(Vec::new()).await,
        }
    }

    /// Sleeps until a push, until it is time to look again, or until another part of this worker knows of a task.
    async fn sleep(&mut self) {
        self.allocator.leave(self.position);
        // Nothing is taken off a paused queue; every claim sees whether it still is paused.
        if !self.is_paused {
            self.listener.listen();
        }
        let wakeups = &self.worker.queue.wakeups;
        wakeups.set_next_due(Some(self.look_again));
        tokio::select! {
            biased;
            () = self.worker.shared.stop.cancelled() => {}
            pushed = self.listener.pushed() => {
                self.is_woken = pushed;
                self.is_hungry = pushed;
            }
            () = wakeups.woken() => self.is_hungry = true,
            () = tokio::time::sleep_until(self.look_again.into()) => self.is_hungry = true,
        }
    }

    /// Waits for free slots; `None` when the worker stops claiming. A push that finds none free wakes another worker.
    async fn acquire_slots(&mut self) -> Option<Vec<OwnedSemaphorePermit>> {
        let (stop, slots) = (&self.worker.shared.stop, self.allocator.slots());
        let acquire = self.allocator.acquire(self.position);
        tokio::pin!(acquire);
        loop {
            if self.is_woken && slots.is_full() {
                self.is_woken = false;
                self.listener.forward_wakeup().await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                free = &mut acquire => return Some(free),
                pushed = self.listener.pushed() => self.is_woken |= pushed,
            }
        }
    }

    /// Claims as many tasks as there are free slots, and starts them. A failed claim is repeated under the same number: if it was
    /// executed and only its reply was lost, its tasks are not.
    async fn claim(&mut self, mut free: Vec<OwnedSemaphorePermit>) {
        let queue = self.worker.queue.clone();
        // What is scheduled from here on may be missed by this claim, so it has to wake the fetcher.
        queue.wakeups.set_next_due(None);
        let id = ClaimId::new(queue.consumer.worker(), self.next_claim);
        let asked = free.len();
        let claim = queue.consumer.claim(&id, asked);
        tokio::pin!(claim);
        let answer = if let Ok(answer) = tokio::time::timeout(SLOT_PATIENCE, &mut claim).await {
            answer
        } else {
            free.clear();
            claim.await
        };
        match answer {
            Ok(claimed) => {
                queue.retry.succeeded();
                self.health.claim_answered();
                queue.clock.sync(claimed.now);
                self.worker.shared.metrics.claimed(self.worker.name(), claimed.entries.len());
                self.failing = None;
                self.note_paused(claimed.paused);
                self.is_hungry = claimed.entries.len() + claimed.unreadable.len() >= asked && !self.is_paused;
                self.is_woken &= self.is_hungry;
                // Redis decides what is due by its own clock in whole milliseconds; ours may be a fraction ahead.
                let wait = claimed.next_due.map_or(BLOCK_TIMEOUT, |due| queue.clock.until(due).min(BLOCK_TIMEOUT));
                self.look_again = Instant::now() + wait + Duration::from_millis(1);
                self.start_all(claimed, free).await;
            }
            Err(error) => {
                queue.retry.failed("claim", &error);
                self.look_again = Instant::now() + self.failing.get_or_insert_default().next_wait();
            }
        }
    }

    fn note_paused(&mut self, paused: bool) {
        if self.is_paused != paused {
            self.is_paused = paused;
            tracing::info!(queue = self.worker.name(), paused, "the queue was paused or resumed");
        }
    }

    async fn start_all(&mut self, claimed: Claimed, mut free: Vec<OwnedSemaphorePermit>) {
        for (token, error) in claimed.unreadable {
            tokio::spawn(bury_unreadable(self.worker.clone(), token, error));
        }
        for entry in claimed.entries {
            // A repeated claim may bring more tasks than this one asked for, and a late answer finds its slots given away.
            let slot = match free.pop() {
                Some(slot) => slot,
                None => match self.allocator.slots().acquire().await {
                    Some(slot) => slot,
                    None => return,
                },
            };
            let held = self.worker.hold(&entry.token, slot);
            tokio::spawn(execute(self.worker.clone(), entry, held));
        }
        // Only now that all are registered, or the sweeper would take them for strays.
        self.next_claim += 1;
        self.worker.queue.held.set_registered_claims(self.next_claim);
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
