//! Starts the parts that each queue of a worker has for itself: at the start of the worker, and for partitions that are added later.

use std::sync::Arc;

use parking_lot::Mutex;
use redial_core::{Db, QueueName, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::parts;
use crate::observe::health::Health;
use crate::queue::fetcher::AddedPartition;
use crate::queue::queue_worker::{QueueWorker, SharedHandles};
use crate::queue::served_queues::ServedQueues;
use crate::queue::{checker, heartbeat, partition_watcher, scheduler, sweeper, vital};

/// The parts of all queues. Clones are the same.
#[derive(Debug, Clone)]
pub struct QueueParts {
    health: Arc<Health>,
    /// What runs until the worker signs off.
    heartbeats: Arc<Mutex<JoinSet<()>>>,
}

impl QueueParts {
    /// None yet.
    pub fn new(health: Arc<Health>) -> Self {
        Self { health, heartbeats: Arc::default() }
    }

    /// Starts those of a queue.
    pub fn start(&self, worker: &QueueWorker) {
        self.health.watch_commands(worker.queue.retry.clone());
        self.health.watch_tasks(worker.queue.held.clone());
        let (sender, news) = watch::channel(None);
        let mut heartbeats = self.heartbeats.lock();
        heartbeats.spawn(vital::guard("heartbeat", heartbeat::run(worker.clone(), self.health.clone(), sender)));
        heartbeats.spawn(sweeper::run(worker.clone(), news));
        vital::spawn("scheduler", scheduler::run(worker.clone()));
        vital::spawn("checker", checker::run(worker.clone()));
    }

    /// Ends the heartbeats, and what they tell of. No partition is added any more.
    pub async fn end(&self) {
        let mut heartbeats = std::mem::take(&mut *self.heartbeats.lock());
        heartbeats.shutdown().await;
    }
}

/// Starts what serves a partition, when a queue of this worker gets one.
pub struct PartitionStarter {
    pub db: Db,
    pub id: WorkerId,
    pub shared: Arc<SharedHandles>,
    pub served: ServedQueues,
    pub queue_parts: QueueParts,
    pub added: mpsc::UnboundedSender<AddedPartition>,
}

impl PartitionStarter {
    /// Runs until the worker stops claiming.
    pub async fn watch(self) {
        let queues = self.shared.config.queues.iter().map(|(name, _)| name.clone()).collect();
        let (db, served, stop) = (self.db.clone(), self.served.clone(), self.shared.stop.clone());
        partition_watcher::run(db, queues, served, stop, |queue, name| self.start(queue, name)).await;
    }

    fn start(&self, queue: usize, name: QueueName) {
        // Numbered as the queues in its announcement are.
        let id = self.id.for_queue(self.served.len());
        let worker = parts::queue_worker(&self.shared, &self.db, name, id);
        self.served.add(worker.clone());
        self.queue_parts.start(&worker);
        // It fails only if the worker claims nothing any more.
        let _ = self.added.send(AddedPartition { worker, queue });
    }
}
