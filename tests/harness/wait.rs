//! Polling until a condition holds.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Short, so that polling adds little to a measured time, yet long enough not to load two cores.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Runs `check` until it returns a value; panics at the timeout and names the caller's line.
#[track_caller]
pub fn eventually<T, F, Fut>(timeout: Duration, check: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        match within(timeout, check).await {
            Some(value) => value,
            None => panic!("still waiting after {timeout:?} at {caller}"),
        }
    }
}

/// Runs `check` until it returns a value. At the timeout it returns `None`, even in the middle of a check.
pub async fn within<T, F, Fut>(timeout: Duration, mut check: F) -> Option<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = timeout_at(deadline, check()).await.ok()? {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(POLL_INTERVAL).await;
    }
}
