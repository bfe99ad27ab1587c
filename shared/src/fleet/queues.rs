//! The queues of a fleet with their numbers, and what each worker holds of them. Nothing here reads a task.

use std::collections::BTreeMap;

use crate::queue::admin::Overview;
use crate::{Db, Error, QueueName, UnixMs, WorkerId};

/// A worker with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyWorker {
    /// Its id.
    pub worker: WorkerId,
    /// When it counts as gone unless it is heard of again.
    pub lease_until: UnixMs,
    /// How many tasks it holds of each queue that it serves.
    pub holds: Vec<(QueueName, u64)>,
    /// The version of the protocol that it speaks, if it has said so.
    pub protocol: Option<u32>,
    /// Its release, if it has said so.
    pub release: Option<String>,
}

impl Db {
    /// Snapshots of queues, in this order.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn overviews(
        &self,
        names: impl IntoIterator<Item = QueueName>,
    ) -> Result<Vec<(QueueName, Overview)>, Error> {
        let announced = self.announced_workers().await?;
        let mut overviews = Vec::new();
        for name in names {
            let overview = self.queue(name.clone()).overview_among(&announced).await?;
            overviews.push((name, overview));
        }
        Ok(overviews)
    }
}

/// The workers that serve these queues, by id.
pub fn busy_workers(overviews: &[(QueueName, Overview)]) -> Vec<BusyWorker> {
    let mut workers: BTreeMap<String, BusyWorker> = BTreeMap::new();
    for (name, overview) in overviews {
        for info in &overview.workers {
            let id = info.worker.without_queue();
            let worker = workers.entry(id.as_str().to_owned()).or_insert_with(|| BusyWorker {
                worker: id,
                lease_until: info.lease_until,
                holds: Vec::new(),
                protocol: info.protocol,
                release: info.release.clone(),
            });
            worker.lease_until = worker.lease_until.max(info.lease_until);
            worker.holds.push((name.clone(), info.tasks));
        }
    }
    workers.into_values().collect()
}
