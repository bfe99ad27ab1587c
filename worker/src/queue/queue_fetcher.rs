//! Fills free slots with the tasks of one queue: first a slot, then a claim, then a task of its own. When the queue has nothing to give,
//! its fetcher sleeps until a push, or until something is due. While the queue is idle, it claims nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::Error;
use redial_core::consumer::{ClaimId, Claimed};
use redial_core::protocol::id::Token;
use redial_core::protocol::task::{InvalidTask, ReturnAddress, TaskError};
use redial_core::queue::entry::Entry;
use tokio::sync::OwnedSemaphorePermit;

use super::push_listener::{ListenOutcome, PushListener};
use super::queue_worker::{QueueHandles, QueueWorker};
use super::redis_retry::RetryWaits;
use super::slot_allocator::{ClaimTurn, SlotAllocator};
use crate::observe::health::Health;
use crate::task::execute::execute;
use crate::task::job::InvalidJob;
use crate::task::settle::Settler;
use crate::task::types::Turn;

/// A claim that is not answered for this long does not hold up the next queue's turn.
const TURN_PATIENCE: Duration = Duration::from_millis(50);
/// One that is not answered for this much longer gives its slots back to the other queues. It is longer than an answer takes from 200 ms
/// away.
const SLOT_PATIENCE: Duration = Duration::from_millis(450);
/// A queue that is not idle is claimed from at least this often: what another worker released or scheduled announces itself to nobody.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often a fetcher that a push has woken checks, while it waits for a slot, whether all slots are taken.
const FULL_CHECK_INTERVAL: Duration = Duration::from_millis(20);

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
            } else if let Some(turn) = self.acquire_turn().await {
                self.claim(turn).await;
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
            () = tokio::time::sleep_until(self.look_again.into()) => self.claim(ClaimTurn::default()).await,
        }
    }

    /// Sleeps until a push, until it is time to look again, or until another part of this worker knows of a task.
    async fn sleep(&mut self) {
        self.allocator.leave(self.position);
        // Nothing is taken off a paused queue; every claim sees whether it still is paused.
        let QueueHandles { activity, wakeups, .. } = &*self.worker.queue;
        if !activity.is_paused() {
            self.listener.listen();
        }
        let look = async {
            activity.active().await;
            tokio::time::sleep_until(self.look_again.into()).await;
        };
        wakeups.set_next_due(Some(self.look_again));
        tokio::select! {
            biased;
            () = self.worker.shared.stop.cancelled() => {}
            outcome = self.listener.ended() => {
                self.is_woken = outcome == ListenOutcome::Pushed;
                self.is_hungry = outcome != ListenOutcome::Nothing;
                if self.is_hungry {
                    activity.note();
                }
            }
            () = wakeups.woken() => {
                self.is_hungry = true;
                activity.note();
            }
            () = look => self.is_hungry = true,
            () = activity.listener_suspected() => Box::pin(self.listener.end()).await,
        }
    }

    /// Waits for this queue's turn at free slots; `None` when the worker stops claiming. A push that finds none free wakes another worker.
    async fn acquire_turn(&mut self) -> Option<ClaimTurn> {
        let (stop, slots) = (&self.worker.shared.stop, self.allocator.slots());
        let acquire = self.allocator.acquire(self.position);
        tokio::pin!(acquire);
        loop {
            if self.is_woken && slots.is_full() {
                self.is_woken = false;
                Box::pin(self.listener.forward_wakeup()).await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                turn = &mut acquire => return Some(turn),
                outcome = self.listener.ended() => self.is_woken |= outcome == ListenOutcome::Pushed,
                // Another queue of this worker may take the slot that was free when the push came.
                () = tokio::time::sleep(FULL_CHECK_INTERVAL), if self.is_woken => {}
            }
        }
    }

    /// Claims as many tasks as there are free slots, and starts them. A failed claim is repeated under the same number: if it was
    /// executed and only its reply was lost, its tasks are not.
    async fn claim(&mut self, turn: ClaimTurn) {
        let ClaimTurn { slots: mut free, hold } = turn;
        let queue = self.worker.queue.clone();
        // What is scheduled from here on may be missed by this claim, so it has to wake the fetcher.
        queue.wakeups.set_next_due(None);
        let id = ClaimId::new(queue.consumer.worker(), self.next_claim);
        let asked = free.len();
        let sent = Instant::now();
        // Boxed, as the other exits below: a worker may have hundreds of fetchers.
        let mut claim = Box::pin(queue.consumer.claim(&id, asked));
        let mut answer = tokio::time::timeout(TURN_PATIENCE, &mut claim).await;
        drop(hold);
        if answer.is_err() {
            answer = tokio::time::timeout(SLOT_PATIENCE, &mut claim).await;
        }
        let answer = if let Ok(answer) = answer {
            answer
        } else {
            free.clear();
            claim.await
        };
        let received = Instant::now();
        match answer {
            Ok(claimed) => {
                queue.retry.succeeded();
                self.health.claim_answered();
                queue.clock.sync(claimed.now, sent, received);
                self.worker.shared.metrics.claimed(self.worker.name(), claimed.entries.len());
                if self.failing.take().is_some() {
                    Box::pin(self.listener.end()).await;
                }
                if queue.activity.set_paused(claimed.paused) {
                    tracing::info!(
                        queue = self.worker.name(),
                        paused = claimed.paused,
                        "the queue was paused or resumed"
                    );
                }
                let taken = claimed.entries.len() + claimed.unreadable.len();
                if taken > 0 {
                    queue.activity.note();
                }
                self.is_hungry = taken >= asked && !claimed.paused;
                self.is_woken &= self.is_hungry;
                // Redis decides what is due by its own clock in whole milliseconds; ours may be a fraction ahead.
                let wait = claimed.next_due.map_or(LOOK_INTERVAL, |due| queue.clock.until(due).min(LOOK_INTERVAL));
                self.look_again = Instant::now() + wait + Duration::from_millis(1);
                self.start_all(claimed, free).await;
            }
            Err(error) => {
                queue.retry.failed("claim", &error);
                // It may have been executed.
                queue.activity.note();
                self.look_again = Instant::now() + self.failing.get_or_insert_default().next_wait();
            }
        }
    }

    async fn start_all(&mut self, claimed: Claimed, mut free: Vec<OwnedSemaphorePermit>) {
        for (token, error) in claimed.unreadable {
            self.start_burial(token, error);
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
            self.start(entry, slot);
        }
        // Only now that all are registered, or the sweeper would take them for strays.
        self.next_claim += 1;
        self.worker.queue.held.set_registered_claims(self.next_claim);
    }

    /// Not asynchronous, so that the future of a task is never a part of the fetcher's own.
    fn start(&self, entry: Entry, slot: OwnedSemaphorePermit) {
        let held = self.worker.hold(&entry.token, slot);
        tokio::spawn(execute(self.worker.clone(), entry, held, Turn::default()));
    }

    fn start_burial(&self, token: Token, error: Error) {
        tokio::spawn(bury_unreadable(self.worker.clone(), token, error));
    }
}

/// An entry that cannot be read must not stop the others: it becomes a dead letter with all its bytes.
pub async fn bury_unreadable(worker: QueueWorker, token: Token, error: Error) {
    tracing::error!(queue = worker.name(), %error, "an entry cannot be read");
    let cause = InvalidTask::UnreadableEntry(error.to_string());
    let error = TaskError { cause, return_address: ReturnAddress::default() };
    let serial = token.as_str().to_owned();
    let first_seen = worker.queue.clock.now();
    let invalid = InvalidJob { token, serial, first_seen, error: Box::new(error) };
    Settler::new(&worker).bury_invalid(invalid).await;
}
