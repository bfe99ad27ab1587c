//! Redis away: keep what is in hand, and try again, spread out, until it is back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redial::Error;

use crate::worker::Worker;

const BASE: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(2);

/// Does `what` until Redis has taken it, or until the worker gives up its calls (`None`). Everything done so is safe to do
/// twice. Log lines are bounded: one when Redis goes, one when it is back.
pub async fn persist<T, F: Future<Output = Result<T, Error>>>(
    worker: &Worker,
    what: &'static str,
    mut attempt: impl FnMut() -> F,
) -> Option<T> {
    let away = &worker.redis_away;
    let mut wait = BASE;
    loop {
        match attempt().await {
            Ok(done) => {
                if away.load(Ordering::Relaxed) && away.swap(false, Ordering::Relaxed) {
                    tracing::info!("Redis is back");
                }
                return Some(done);
            }
            Err(_) if worker.abort.is_cancelled() => return None,
            Err(error) => {
                worker.metrics.redis_error();
                if !away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(what, %error, "Redis is away: holding what is in hand and trying again");
                }
            }
        }
        let jittered = wait.mul_f64(rand::random_range(0.5..1.0));
        tokio::select! {
            () = tokio::time::sleep(jittered) => wait = (wait * 2).min(CAP),
            () = worker.abort.cancelled() => return attempt().await.ok(),
        }
    }
}
