//! Notices that a queue of this worker has more partitions than before, and serves them as well from then on.

use std::sync::Arc;
use std::time::Duration;

use redial_core::db::partition_map::PartitionMap;
use redial_core::{Db, QueueName};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::served_queues::ServedQueues;

/// How often it is looked: one command for all queues.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// Looks for partitions until the worker stops claiming, and has those started that are new: `start` gets the position of the queue in the
/// configuration, and the name of the partition.
pub async fn run(
    db: Db,
    queues: Arc<[QueueName]>,
    served: ServedQueues,
    stop: CancellationToken,
    start: impl Fn(usize, QueueName),
) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let read = tokio::select! {
            () = stop.cancelled() => return,
            read = db.partitions_kept() => read,
        };
        match read {
            Ok(map) => start_new(&map, &queues, &served, &start),
            Err(error) => tracing::debug!(%error, "could not look for partitions; the next look does"),
        }
    }
}

fn start_new(map: &PartitionMap, queues: &[QueueName], served: &ServedQueues, start: &impl Fn(usize, QueueName)) {
    for (position, queue) in queues.iter().enumerate() {
        let mut started = 0;
        for partition in map.names(queue).filter(|name| !served.contains(name)) {
            start(position, partition.clone());
            started += 1;
        }
        if started > 0 {
            tracing::info!(queue = queue.as_str(), partitions = map.count(queue), "serving the partitions of a queue");
        }
    }
}
