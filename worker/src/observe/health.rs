//! Whether a worker is ready: it claims, and Redis answers.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::db::BLOCK_TIMEOUT;
use tokio_util::sync::CancellationToken;

use crate::queue::held_tasks::Slots;

/// A worker with free slots is not ready if it has not claimed for longer than this: being alive is not enough. Even an idle one
/// claims at least once per [`BLOCK_TIMEOUT`].
const MAX_CLAIM_AGE: Duration = BLOCK_TIMEOUT.saturating_mul(2).saturating_add(Duration::from_secs(1));

/// What Redis last answered, and when.
#[derive(Debug)]
pub struct Health {
    slots: Slots,
    lease: Duration,
    stop: CancellationToken,
    last_claim: Mutex<Option<Instant>>,
    last_heartbeat: Mutex<Option<Instant>>,
}

/// Why a worker is not ready.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It stops.
    #[error("draining: no new task is claimed")]
    Draining,
    /// It has just started.
    #[error("no claim has been answered yet")]
    NoClaimYet,
    /// Redis is away.
    #[error("Redis has not answered for {0} s")]
    RedisAway(u64),
}

impl Health {
    /// The health of a worker that has not claimed yet.
    pub fn new(slots: Slots, lease: Duration, stop: CancellationToken) -> Self {
        Self { slots, lease, stop, last_claim: Mutex::default(), last_heartbeat: Mutex::default() }
    }

    /// Redis answered a claim.
    pub fn claim_answered(&self) {
        *self.last_claim.lock() = Some(Instant::now());
    }

    /// Redis answered a heartbeat.
    pub fn heartbeat_answered(&self) {
        *self.last_heartbeat.lock() = Some(Instant::now());
    }

    /// Whether the worker takes tasks, or would if it had a free slot.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self) -> Result<(), NotReady> {
        if self.stop.is_cancelled() {
            return Err(NotReady::Draining);
        }
        // A full worker does not claim; its heartbeats show that Redis answers.
        let (last, max_age) = if self.slots.is_full() {
            // Half a lease is two of its four heartbeats.
            (*self.last_heartbeat.lock(), MAX_CLAIM_AGE.max(self.lease / 2))
        } else {
            (*self.last_claim.lock(), MAX_CLAIM_AGE)
        };
        match last.map(|last| last.elapsed()) {
            None => Err(NotReady::NoClaimYet),
            Some(age) if age > max_age => Err(NotReady::RedisAway(age.as_secs())),
            Some(_) => Ok(()),
        }
    }
}
