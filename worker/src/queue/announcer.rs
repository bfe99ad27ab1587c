//! Announces the worker to the fleet, so that operators see it while it holds no task.

use redial_core::fleet::ServingWorker;
use redial_core::{Db, Error, WorkerId};

use super::heartbeat::BEATS_PER_LEASE;
use crate::config::Config;

/// How often the queues are registered again: they stay listed for a day.
const BEATS_PER_REGISTRATION: u32 = 10;

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
        Self { db, serving: ServingWorker::of_this_release(worker, queues), lease: config.lease }
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
        let is_new = self.db.announce_worker(&self.serving, self.lease).await?;
        if is_registration_due || is_new {
            self.db.register_queues(&self.serving.queues).await?;
        }
        Ok(is_registration_due || is_new)
    }

    /// The worker ends. Returns whether the fleet knows: otherwise it is listed as gone for a while.
    pub async fn withdraw(&self) -> bool {
        let withdrawn = self.db.withdraw_worker(&self.serving).await;
        withdrawn.inspect_err(|error| tracing::debug!(%error, "could not take this worker off the list")).is_ok()
    }
}
