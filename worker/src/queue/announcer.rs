//! Announces the worker to the fleet, so that operators see it while it holds no task.

use redial_core::fleet::ServingWorker;
use redial_core::{Db, WorkerId};

use super::heartbeat::BEATS_PER_LEASE;
use crate::config::Config;

/// Announces one worker.
#[derive(Debug, Clone)]
pub struct WorkerAnnouncer {
    db: Db,
    serving: ServingWorker,
    lease: std::time::Duration,
}

impl WorkerAnnouncer {
    /// An announcer of a worker with this configuration.
    pub fn new(db: Db, worker: WorkerId, config: &Config) -> Self {
        let queues = config.queues.iter().map(|(name, _)| name.clone()).collect();
        Self { db, serving: ServingWorker { worker, queues }, lease: config.lease }
    }

    /// Announces it again and again, until it is aborted.
    pub async fn run(self) {
        let mut beats = tokio::time::interval(self.lease / BEATS_PER_LEASE);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(error) = self.db.announce_worker(&self.serving, self.lease).await {
                tracing::debug!(%error, "could not announce this worker; the next beat tries again");
            }
        }
    }

    /// The worker ends. Returns whether the fleet knows: otherwise it is listed as gone for a while.
    pub async fn withdraw(&self) -> bool {
        let withdrawn = self.db.withdraw_worker(&self.serving).await;
        withdrawn.inspect_err(|error| tracing::debug!(%error, "could not take this worker off the list")).is_ok()
    }
}
