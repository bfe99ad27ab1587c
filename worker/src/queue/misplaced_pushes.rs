//! Finds tasks that were pushed without the braces of a queue's key, as in `LPUSH redial:default`: nobody would ever claim them, and
//! nobody would say so.

use std::collections::HashSet;
use std::time::Duration;

use redial_core::QueueName;
use tokio_util::sync::CancellationToken;

use super::queue_worker::QueueWorker;
use super::served_queues::ServedQueues;

/// How often some queues are looked at, and how many: one command each.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const QUEUES_AT_A_TIME: usize = 10;

/// Looks at these queues in turn until the worker stops claiming, and logs each queue once until its key is empty again.
pub async fn watch(served: ServedQueues, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reported = HashSet::new();
    let mut next = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let workers = served.all();
        for worker in workers.iter().cycle().skip(next).take(QUEUES_AT_A_TIME.min(workers.len())) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = look_at(worker, &mut reported) => {}
            }
        }
        next = (next + QUEUES_AT_A_TIME) % workers.len().max(1);
    }
}

async fn look_at(worker: &QueueWorker, reported: &mut HashSet<QueueName>) {
    let queue = worker.redis_queue();
    // What goes wrong here goes wrong elsewhere, and is logged there.
    let Ok(tasks) = queue.pushed_without_braces().await else { return };
    if tasks == 0 {
        reported.remove(queue.name());
    } else if reported.insert(queue.name().clone()) {
        let (wrong, right) = queue.keys_without_and_with_braces();
        tracing::warn!(
            queue = worker.name(),
            tasks,
            "the list {wrong} has tasks that no worker will claim: push to {right}, braces included; `redis-cli LMOVE {wrong} '{right}' RIGHT LEFT` moves one"
        );
    }
}
