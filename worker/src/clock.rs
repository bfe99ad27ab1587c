//! Redis's clock, as a worker knows it: Redis TIME at the last answer, and the time gone by since. One for each queue: in a
//! Cluster each may be on a node with a clock of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redial_core::UnixMs;

/// An estimate of Redis TIME, right to within a round trip. For what need not be decided in a script.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// What Redis TIME was when `started` was now; 0 until Redis has spoken.
    base_ms: AtomicU64,
}

impl Clock {
    /// A clock that goes by this machine until Redis has spoken.
    pub fn new() -> Self {
        Self { started: Instant::now(), base_ms: AtomicU64::new(0) }
    }

    /// Redis has said what time it is. An answer that was long on its way says less than is known already; only when it says
    /// much less was Redis's clock set back.
    pub fn sync(&self, now: UnixMs) {
        const SET_BACK_MS: u64 = 1_000;
        let base = now.0.saturating_sub(self.elapsed_ms());
        let known = self.base_ms.fetch_max(base, Ordering::Relaxed);
        if known.saturating_sub(base) > SET_BACK_MS {
            self.base_ms.store(base, Ordering::Relaxed);
        }
    }

    /// The time by Redis.
    pub fn now(&self) -> UnixMs {
        match self.base_ms.load(Ordering::Relaxed) {
            0 => UnixMs::local_now(),
            base => UnixMs(base + self.elapsed_ms()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_does_not_set_the_clock_back_but_a_clock_set_back_does() {
        let clock = Clock::new();
        let near = |ms: u64| (ms..ms + 500).contains(&clock.now().0);
        clock.sync(UnixMs(1_000_000));
        assert!(near(1_000_000));
        clock.sync(UnixMs(999_700));
        assert!(near(1_000_000), "{}", clock.now());
        clock.sync(UnixMs(2_000_000));
        assert!(near(2_000_000));
        clock.sync(UnixMs(1_000_000));
        assert!(near(1_000_000), "{}", clock.now());
    }
}
