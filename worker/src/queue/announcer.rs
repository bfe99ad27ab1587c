//! Announces the worker to the fleet, so that operators see it while it holds no task.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redial_core::fleet::ServingWorker;
use redial_core::{Db, Error, WorkerId};

use super::heartbeat::BEATS_PER_LEASE;
use super::served_queues::ServedQueues;

/// How often the queues are registered again: they stay listed for a day.
const BEATS_PER_REGISTRATION: u32 = 10;

/// Announces one worker.
#[derive(Debug, Clone)]
pub struct WorkerAnnouncer {
    db: Db,
    worker: WorkerId,
    served: ServedQueues,
    lease: Duration,
    /// As what it was announced last.
    announced: Arc<Mutex<Option<ServingWorker>>>,
}

impl WorkerAnnouncer {
    /// An announcer of a worker that serves these queues.
    pub fn new(db: Db, worker: WorkerId, served: ServedQueues, lease: Duration) -> Self {
        Self { db, worker, served, lease, announced: Arc::default() }
    }

    /// Announces it again and again, until it is aborted.
    pub async fn run(self) {
        let mut beats = tokio::time::interval(self.lease / BEATS_PER_LEASE);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats_until_registration = 0;
        loop {
            beats.tick().await;
            match self.announce(beats_until_registration == 0).await {
                Ok(true) => beats_until_registration = BEATS_PER_REGISTRATION - 1,
                Ok(false) => beats_until_registration -= 1,
                Err(error) => {
                    beats_until_registration = 0;
                    tracing::debug!(%error, "could not announce this worker; the next beat tries again");
                }
            }
        }
    }

    /// Announces it, and registers its queues if that is due or Redis has lost its list. Returns whether they were registered.
    async fn announce(&self, is_registration_due: bool) -> Result<bool, Error> {
        let serving = ServingWorker::of_this_release(self.worker.clone(), self.served.names());
        let is_new = self.db.announce_worker(&serving, self.lease).await?;
        let before = self.announced.lock().replace(serving.clone());
        // It serves more queues than before, and is listed once.
        if let Some(before) = before.filter(|before| *before != serving) {
            self.db.withdraw_worker(&before).await?;
        }
        if is_registration_due || is_new {
            self.db.register_queues(&serving.queues).await?;
        }
        Ok(is_registration_due || is_new)
    }

    /// The worker ends. Returns whether the fleet knows: otherwise it is listed as gone for a while.
    pub async fn withdraw(&self) -> bool {
        let announced = self.announced.lock().take();
        let Some(serving) = announced else { return true };
        let withdrawn = self.db.withdraw_worker(&serving).await;
        withdrawn.inspect_err(|error| tracing::debug!(%error, "could not take this worker off the list")).is_ok()
    }
}
