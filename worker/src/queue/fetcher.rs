//! Fills free slots with tasks. Each queue has a fetcher of its own, so that one whose Redis does not answer delays no other.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::queue_fetcher::QueueFetcher;
use super::queue_worker::QueueWorker;
use super::slot_allocator::SlotAllocator;
use super::slots::Slots;
use super::vital;
use crate::observe::health::Health;

/// Claims tasks from all queues of a worker.
#[derive(Debug)]
pub struct Fetcher {
    workers: Vec<QueueWorker>,
    allocator: Arc<SlotAllocator>,
    health: Arc<Health>,
}

/// The fetchers of a worker that claims nothing more. A claim that was sent before may still be answered; its tasks are run, and occupy
/// slots.
#[derive(Debug)]
pub struct EndedFetcher {
    workers: Vec<QueueWorker>,
    fetchers: JoinSet<()>,
}

impl Fetcher {
    /// A fetcher for these queues, each with its weight.
    pub fn new(queues: Vec<(QueueWorker, u32)>, slots: Slots, health: Arc<Health>) -> Self {
        let (workers, weights): (Vec<QueueWorker>, Vec<u32>) = queues.into_iter().unzip();
        Self { workers, allocator: Arc::new(SlotAllocator::new(slots, weights)), health }
    }

    /// Runs until the worker stops claiming.
    pub async fn run(self) -> EndedFetcher {
        let mut fetchers = JoinSet::new();
        for (position, worker) in self.workers.iter().enumerate() {
            let fetcher = QueueFetcher::new(position, worker.clone(), self.allocator.clone(), self.health.clone());
            fetchers.spawn(vital::guard("fetcher of a queue", fetcher.run()));
        }
        if let Some(worker) = self.workers.first() {
            worker.shared.stop.cancelled().await;
        }
        EndedFetcher { workers: self.workers, fetchers }
    }
}

impl EndedFetcher {
    /// Ends the claims that are still not answered, and forwards what Redis handed to this worker at the last moment, of which nobody
    /// here would hear.
    pub async fn end(mut self) {
        self.fetchers.shutdown().await;
        let mut forwards = JoinSet::new();
        for worker in self.workers {
            forwards.spawn(async move {
                if let Err(error) = worker.queue.consumer.forward_wakeup().await {
                    tracing::debug!(%error, queue = worker.name(), "another worker may find a push only at its next look");
                }
            });
        }
        forwards.join_all().await;
    }
}
