//! The queues that a worker serves: those of its configuration, and their partitions, of which there may come more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use redial_core::QueueName;

use super::queue_worker::QueueWorker;

/// The queues that a worker serves. Clones see the same ones.
#[derive(Debug, Clone, Default)]
pub struct ServedQueues(Arc<RwLock<Served>>);

#[derive(Debug, Default)]
struct Served {
    /// In the order in which they came, by which they are numbered.
    workers: Arc<[QueueWorker]>,
    positions: HashMap<String, usize>,
}

impl ServedQueues {
    /// All of them at this moment.
    pub fn all(&self) -> Arc<[QueueWorker]> {
        self.0.read().workers.clone()
    }

    /// The one of this name, which may be that of a partition.
    pub fn get(&self, name: &str) -> Option<QueueWorker> {
        let served = self.0.read();
        served.positions.get(name).and_then(|position| served.workers.get(*position)).cloned()
    }

    /// Whether one of this name is served.
    pub fn contains(&self, name: &QueueName) -> bool {
        self.0.read().positions.contains_key(name.as_str())
    }

    /// The first one. A worker has at least one.
    pub fn first(&self) -> Option<QueueWorker> {
        self.0.read().workers.first().cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.read().workers.len()
    }

    /// Their names, in their order.
    pub fn names(&self) -> Vec<QueueName> {
        self.0.read().workers.iter().map(|worker| worker.queue_name().clone()).collect()
    }

    /// Adds one.
    pub fn add(&self, worker: QueueWorker) {
        let mut served = self.0.write();
        let position = served.workers.len();
        served.positions.insert(worker.queue_name().to_string(), position);
        served.workers = served.workers.iter().cloned().chain([worker]).collect();
    }
}
