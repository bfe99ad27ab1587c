//! Whether a worker is ready: it claims, Redis answers, and something gets done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::queue::held_tasks::HeldTasks;
use crate::queue::redis_retry::RedisRetry;
use crate::queue::slots::Slots;

/// A worker with free slots is not ready if Redis has answered no claim for longer than this: being alive is not enough. Even an idle one
/// looks at its queues every second.
const MAX_CLAIM_AGE: Duration = Duration::from_secs(5);
/// A worker whose slots are all occupied is not ready if no task has left any of them for this long.
const MAX_STANDSTILL: Duration = Duration::from_secs(10);
/// Commands about a queue may fail for this long, for example while a connection is replaced.
const MAX_FAILURE: Duration = Duration::from_secs(1);

/// What Redis last answered, and when.
#[derive(Debug)]
pub struct Health {
    slots: Slots,
    lease: Duration,
    stop: CancellationToken,
    last_claim: Mutex<Option<Instant>>,
    last_heartbeat: Mutex<Option<Instant>>,
    watched: Mutex<Watched>,
}

/// The parts of a worker that know how it is.
#[derive(Debug, Default)]
struct Watched {
    retries: Vec<Arc<RedisRetry>>,
    held: Vec<Arc<HeldTasks>>,
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
    /// Some commands fail: in a Cluster, those that one node answers.
    #[error("commands about {scope} have failed for {seconds} s: {error}")]
    CommandsFail {
        /// A queue, or what the fleet shares.
        scope: String,
        /// For how long.
        seconds: u64,
        /// What the last one said.
        error: String,
    },
    /// Nothing gets done.
    #[error("all slots are in use, and no task has left one for {0} s")]
    Standstill(u64),
}

impl Health {
    /// The health of a worker that has not claimed yet.
    pub fn new(slots: Slots, lease: Duration, stop: CancellationToken) -> Self {
        Self {
            slots,
            lease,
            stop,
            last_claim: Mutex::default(),
            last_heartbeat: Mutex::default(),
            watched: Mutex::default(),
        }
    }

    /// Takes the failures of these commands into account.
    pub fn watch_commands(&self, retry: Arc<RedisRetry>) {
        self.watched.lock().retries.push(retry);
    }

    /// Takes into account whether these tasks leave their slots.
    pub fn watch_tasks(&self, held: Arc<HeldTasks>) {
        self.watched.lock().held.push(held);
    }

    /// Redis answered a claim, or a look at idle queues.
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
    /// It does not, for all of these reasons.
    pub fn check(&self) -> Result<(), Vec<NotReady>> {
        if self.stop.is_cancelled() {
            return Err(vec![NotReady::Draining]);
        }
        let mut reasons: Vec<NotReady> = self.silence().into_iter().collect();
        let watched = self.watched.lock();
        for retry in &watched.retries {
            if let Some((since, error)) = retry.failing().filter(|(since, _)| since.elapsed() > MAX_FAILURE) {
                let (scope, seconds) = (retry.scope().to_owned(), since.elapsed().as_secs());
                reasons.push(NotReady::CommandsFail { scope, seconds, error });
            }
        }
        if self.slots.is_full() {
            let last_change = watched.held.iter().map(|held| held.last_change()).max();
            let standstill = last_change.map(|at| at.elapsed()).filter(|age| *age > MAX_STANDSTILL);
            reasons.extend(standstill.map(|age| NotReady::Standstill(age.as_secs())));
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Whether Redis has been silent for too long.
    fn silence(&self) -> Option<NotReady> {
        // A full worker does not claim; its heartbeats show that Redis answers.
        let (last, max_age) = if self.slots.is_full() {
            // Half a lease is two of its four heartbeats.
            (*self.last_heartbeat.lock(), MAX_CLAIM_AGE.max(self.lease / 2))
        } else {
            (*self.last_claim.lock(), MAX_CLAIM_AGE)
        };
        match last.map(|last| last.elapsed()) {
            None => Some(NotReady::NoClaimYet),
            Some(age) if age > max_age => Some(NotReady::RedisAway(age.as_secs())),
            Some(_) => None,
        }
    }
}
