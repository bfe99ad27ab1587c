//! Parts of a worker without which the others would only seem to work, such as the fetcher. A panic in one of them ends the process:
//! its leases end as well, other workers take its tasks, and whoever supervises it starts it again.

use std::pin::pin;

use tokio::task::JoinHandle;

use crate::task::contain::contain;

/// The exit code of a process that ended because of a panic, as for Rust's own.
const PANICKED: i32 = 101;

/// Starts a part of the worker.
pub fn spawn<T: Send + 'static>(part: &'static str, run: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(guard(part, run))
}

/// Runs a part of the worker.
pub async fn guard<T>(part: &'static str, run: impl Future<Output = T>) -> T {
    match contain(pin!(run)).await {
        Ok(value) => value,
        Err(panic) => {
            tracing::error!(
                part,
                panic,
                "a part of this worker panicked: ending; its tasks become available when its lease ends"
            );
            std::process::exit(PANICKED)
        }
    }
}
