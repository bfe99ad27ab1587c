//! While the fetcher is idle, blocks on the list, so that a push from any language wakes it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::held_tasks::Slots;
use super::queue_worker::QueueWorker;

/// Counts the fetcher's turns between busy and idle: odd means idle. A number and not a flag, so that a turn that is too short to be
/// observed is still noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Phase(u64);

impl Phase {
    /// The next turn.
    pub fn advance(&mut self) {
        self.0 += 1;
    }

    fn is_idle(self) -> bool {
        self.0 % 2 == 1
    }
}

/// What the fetcher and the listener of one queue tell each other.
#[derive(Debug, Default)]
pub struct PushState {
    /// A push has woken this worker, and the fetcher has not claimed since.
    wakeup_pending: AtomicBool,
    /// Whether the queue was paused at the last claim.
    is_paused: AtomicBool,
}

impl PushState {
    /// Takes over whether a claim found the queue paused, and logs a change.
    pub fn set_paused(&self, paused: bool, queue: &str) {
        if self.is_paused.swap(paused, Ordering::Relaxed) != paused {
            tracing::info!(queue, paused, "the queue was paused or resumed");
        }
    }

    /// Whether a push has woken this worker since the last call.
    pub fn take_pending(&self) -> bool {
        self.wakeup_pending.swap(false, Ordering::Relaxed)
    }

    /// Lets the push that woke this worker wake another one, unless the fetcher has claimed since: a worker that stops will not.
    pub async fn forward_pending(&self, worker: &QueueWorker) {
        if self.take_pending() {
            self.forward_wakeup(worker).await;
        }
    }

    /// Lets a push that woke this worker wake another one.
    pub async fn forward_wakeup(&self, worker: &QueueWorker) {
        worker.queue.retry.retry("forward_wakeup", || worker.queue.consumer.forward_wakeup()).await;
    }
}

/// Waits for pushes to one queue.
#[derive(Debug)]
pub struct PushListener {
    pub worker: QueueWorker,
    pub pushes: Arc<PushState>,
    pub slots: Slots,
    pub phase: watch::Receiver<Phase>,
}

impl PushListener {
    /// Runs until the worker stops claiming. A push that finds no slot free is forwarded to another worker.
    pub async fn run(mut self) {
        while let Some(idle) = self.phase_where(Phase::is_idle).await {
            // Nothing is taken off a paused queue; every claim sees whether it still is paused.
            let is_paused = self.pushes.is_paused.load(Ordering::Relaxed);
            if !is_paused {
                let wait = || self.worker.queue.consumer.wait_for_push();
                if self.worker.queue.retry.retry("wait_for_push", wait).await != Some(true) {
                    continue;
                }
                if self.slots.is_full() || self.worker.shared.stop.is_cancelled() {
                    self.pushes.forward_wakeup(&self.worker).await;
                    continue;
                }
                self.pushes.wakeup_pending.store(true, Ordering::Relaxed);
                self.worker.shared.wakeups.wake();
            }
            // Not again before the fetcher has claimed.
            if self.phase_where(|phase| phase != idle).await.is_none() {
                return self.pushes.forward_pending(&self.worker).await;
            }
        }
    }

    /// The first phase that satisfies the condition; `None` when the worker stops claiming.
    async fn phase_where(&mut self, condition: impl Fn(Phase) -> bool) -> Option<Phase> {
        tokio::select! {
            biased;
            () = self.worker.shared.stop.cancelled() => None,
            found = self.phase.wait_for(|phase| condition(*phase)) => found.ok().map(|phase| *phase),
        }
    }
}
