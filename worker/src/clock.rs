//! Redis's clock, as this worker knows it: Redis TIME at the last answer, and the time gone by since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redial::UnixMs;

/// An estimate of Redis TIME, right to within a round trip. For what need not be decided in a script.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// What Redis TIME was when `started` was now.
    base_ms: AtomicU64,
}

impl Clock {
    /// A clock that goes by this machine until Redis has spoken.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            base_ms: AtomicU64::new(UnixMs::local().0),
        }
    }

    /// Redis has just said what time it is.
    pub fn sync(&self, now: UnixMs) {
        self.base_ms
            .store(now.0.saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
    }

    /// The time by Redis.
    pub fn now(&self) -> UnixMs {
        UnixMs(self.base_ms.load(Ordering::Relaxed) + self.elapsed_ms())
    }

    /// How long until a moment; nothing if it has passed.
    pub fn until(&self, at: UnixMs) -> Duration {
        Duration::from_millis(at.since(self.now()))
    }

    fn elapsed_ms(&self) -> u64 {
        ms(self.started.elapsed())
    }
}

/// A duration in whole milliseconds.
pub fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
