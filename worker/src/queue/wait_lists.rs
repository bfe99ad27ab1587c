//! The wait lists in which tasks of a worker may be parked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::Db;
use redial_core::consumer::WaitList;
use tokio::sync::Mutex;

/// How many limits and how many breakers are looked at for parked tasks: those that were used last.
const MAX_WAIT_LISTS: usize = 200;
/// How often their names are read.
const NAMES_INTERVAL: Duration = Duration::from_secs(10);

/// The wait lists in which tasks may be parked, for all queues of a worker.
#[derive(Debug, Default)]
pub struct RecentWaitLists(Mutex<Option<(Instant, Arc<[WaitList]>)>>);

impl RecentWaitLists {
    /// What is known, which is a few seconds old at most. `None` while Redis is away.
    pub async fn read(&self, db: &Db) -> Option<Arc<[WaitList]>> {
        let mut known = self.0.lock().await;
        if let Some((_, lists)) = known.as_ref().filter(|(at, _)| at.elapsed() < NAMES_INTERVAL) {
            return Some(lists.clone());
        }
        let lists: Arc<[WaitList]> = db.recent_wait_lists(MAX_WAIT_LISTS).await.ok()?.into();
        *known = Some((Instant::now(), lists.clone()));
        Some(lists)
    }
}
