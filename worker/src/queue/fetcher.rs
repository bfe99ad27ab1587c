//! Fills free slots with tasks. Each queue has a fetcher of its own, so that one whose Redis does not answer delays no other.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::queue_fetcher::QueueFetcher;
use super::queue_worker::QueueWorker;
use super::served_queues::ServedQueues;
use super::slot_allocator::SlotAllocator;
use super::slots::Slots;
use super::vital;
use crate::observe::health::Health;

/// A partition that a worker serves from now on.
#[derive(Debug)]
pub struct AddedPartition {
    pub worker: QueueWorker,
    /// The position of its queue in the configuration, with which it shares its turns.
    pub queue: usize,
}

/// Claims tasks from all queues of a worker.
#[derive(Debug)]
pub struct Fetcher {
    served: ServedQueues,
    workers: Vec<QueueWorker>,
    added: mpsc::UnboundedReceiver<AddedPartition>,
    allocator: Arc<SlotAllocator>,
    health: Arc<Health>,
}

/// The fetchers of a worker that claims nothing more. A claim that was sent before may still be answered; its tasks are run, and occupy
/// slots.
#[derive(Debug)]
pub struct EndedFetcher {
    served: ServedQueues,
    fetchers: JoinSet<()>,
}

impl Fetcher {
    /// A fetcher for these queues, each with its weight, and for the partitions that are `added`. All of them are `served`.
    pub fn new(
        queues: Vec<(QueueWorker, u32)>,
        added: mpsc::UnboundedReceiver<AddedPartition>,
        served: ServedQueues,
        slots: Slots,
        health: Arc<Health>,
    ) -> Self {
        let (workers, weights): (Vec<QueueWorker>, Vec<u32>) = queues.into_iter().unzip();
        Self { served, workers, added, allocator: Arc::new(SlotAllocator::new(slots, weights)), health }
    }

    /// Runs until the worker stops claiming.
    pub async fn run(mut self) -> EndedFetcher {
        let mut fetchers = JoinSet::new();
        let start = |position, worker| {
            let fetcher = QueueFetcher::new(position, worker, self.allocator.clone(), self.health.clone());
            vital::guard("fetcher of a queue", fetcher.run())
        };
        for (position, worker) in self.workers.iter().enumerate() {
            fetchers.spawn(start(position, worker.clone()));
        }
        if let Some(worker) = self.workers.first() {
            loop {
                tokio::select! {
                    () = worker.shared.stop.cancelled() => break,
                    Some(AddedPartition { worker, queue }) = self.added.recv() => {
                        fetchers.spawn(start(self.allocator.add(queue), worker));
                    }
                }
            }
        }
        EndedFetcher { served: self.served, fetchers }
    }
}

impl EndedFetcher {
    /// Ends the claims that are still not answered, and forwards what Redis handed to this worker at the last moment, of which nobody
    /// here would hear.
    pub async fn end(mut self) {
        self.fetchers.shutdown().await;
        let mut forwards = JoinSet::new();
        for worker in &*self.served.all() {
            let worker = worker.clone();
            forwards.spawn(async move {
                if let Err(error) = worker.queue.consumer.forward_wakeup().await {
                    tracing::debug!(%error, queue = worker.name(), "another worker may find a push only at its next look");
                }
            });
        }
        forwards.join_all().await;
    }
}
