//! Redis away: keep what is in hand, and try again, spread out, until it is back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redial_core::Error;

use crate::worker::{Lane, Worker};

const BASE: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(2);

/// Does `what` until Redis has taken it, or until the worker gives up its calls (`None`). Everything done so is safe to do
/// twice.
pub async fn persist<T, F: Future<Output = Result<T, Error>>>(
    worker: &Worker,
    lane: &Lane,
    what: &'static str,
    attempt: impl FnMut() -> F,
) -> Option<T> {
    persist_counting(worker, lane, what, attempt).await.map(|(done, _)| done)
}

/// The same, and whether it was sent more than once: then Redis may have taken an earlier copy whose answer was lost.
pub async fn persist_counting<T, F: Future<Output = Result<T, Error>>>(
    worker: &Worker,
    lane: &Lane,
    what: &'static str,
    mut attempt: impl FnMut() -> F,
) -> Option<(T, bool)> {
    let mut backoff = Backoff::default();
    let mut again = false;
    loop {
        match attempt().await {
            Ok(done) => {
                answered(lane);
                return Some((done, again));
            }
            Err(_) if worker.abort.is_cancelled() => return None,
            Err(error) => failed(worker, lane, what, &error),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => again = true,
            () = worker.abort.cancelled() => return attempt().await.ok().map(|done| (done, true)),
        }
    }
}

/// Growing waits with jitter, so that a fleet that lost Redis together does not come back together.
#[derive(Debug, Default)]
pub struct Backoff(Option<Duration>);

impl Backoff {
    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let wait = self.0.unwrap_or(BASE);
        self.0 = Some((wait * 2).min(CAP));
        wait.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// Redis has answered for this queue.
pub fn answered(lane: &Lane) {
    if lane.redis_away.load(Ordering::Relaxed) && lane.redis_away.swap(false, Ordering::Relaxed) {
        tracing::info!(queue = %lane.name, "Redis answers again");
    }
}

/// Redis has not answered for this queue, or refused. Counted each time, logged once until it answers again.
pub fn failed(worker: &Worker, lane: &Lane, what: &'static str, error: &Error) {
    worker.metrics.redis_error();
    if !lane.redis_away.swap(true, Ordering::Relaxed) {
        tracing::warn!(queue = %lane.name, what, %error, "Redis does not answer or refuses: holding what is in hand and trying again");
    }
}
