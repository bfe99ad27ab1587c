//! How long anything may take.

use std::time::{Duration, Instant};

/// How long anything may take. Generous: the slowest build on a busy machine has to stay below it, and what grows out of bounds does not.
pub const BOUND: Duration = Duration::from_secs(10);

/// The result of `work`, which must not take long.
pub fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    assert!(started.elapsed() < BOUND, "{what} took {:?}", started.elapsed());
    done
}
