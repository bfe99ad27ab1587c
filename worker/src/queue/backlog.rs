//! Measures what there is to do in a queue, for the metrics.

use super::queue_worker::QueueWorker;
use crate::observe::queue_metrics::PartBacklog;

/// Shows how many tasks a queue has, of which this worker holds `held`. While Redis is away, what was shown stays.
pub async fn measure(worker: &QueueWorker, held: usize) {
    let queue = worker.redis_queue();
    let Ok(mut backlog) = queue.backlog(worker.queue.clock.now()).await else { return };
    if backlog.counts.parked > 0 {
        let Some(lists) = worker.shared.wait_lists.read(queue.db()).await else { return };
        if queue.count_parked(&mut backlog, &lists).await.is_err() {
            return;
        }
    }
    worker.shared.metrics.queues.backlog(worker.name(), worker.queue_name(), PartBacklog { backlog, held });
}
