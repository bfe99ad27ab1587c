//! Measures what there is to do in a queue, for the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::Db;
use redial_core::consumer::WaitList;
use tokio::sync::Mutex;

use super::queue_worker::QueueWorker;

/// How many limits and how many breakers are looked at for parked tasks: those that were used last.
const MAX_WAIT_LISTS: usize = 200;
/// How often their names are read.
const NAMES_INTERVAL: Duration = Duration::from_secs(10);

/// The wait lists in which tasks may be parked, for all queues of a worker.
#[derive(Debug, Default)]
pub struct RecentWaitLists(Mutex<Option<(Instant, Arc<[WaitList]>)>>);

impl RecentWaitLists {
    async fn read(&self, db: &Db) -> Option<Arc<[WaitList]>> {
        let mut known = self.0.lock().await;
        if let Some((_, lists)) = known.as_ref().filter(|(at, _)| at.elapsed() < NAMES_INTERVAL) {
            return Some(lists.clone());
        }
        let lists: Arc<[WaitList]> = db.recent_wait_lists(MAX_WAIT_LISTS).await.ok()?.into();
        *known = Some((Instant::now(), lists.clone()));
        Some(lists)
    }
}

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
    worker.shared.metrics.queues.backlog(worker.name(), &backlog, held);
}
