//! Polling until something is so: the only way that tests here wait.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Short, so that a wait adds little to a measured time; long enough not to load two cores.
const POLL: Duration = Duration::from_millis(5);

/// Runs `check` until it gives a value; panics at the caller's line when none came in time.
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
            None => panic!("waited {timeout:?} in vain at {caller}"),
        }
    }
}

/// Runs `check` until it gives a value, or gives up at the timeout, even in the midst of a check.
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
        sleep(POLL).await;
    }
}
