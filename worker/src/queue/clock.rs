//! A worker's estimate of Redis TIME: the last time that Redis reported, plus what has elapsed since. One per queue, because in a
//! Cluster each queue may be on a node with its own clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redial_core::UnixMs;

/// An estimate of Redis TIME, accurate to a round trip. For decisions that no two workers must agree on.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// Redis TIME at the moment `started`; 0 until Redis has reported it.
    base_ms: AtomicU64,
}

impl Clock {
    /// A clock that follows this machine until the first [`sync`](Self::sync).
    pub fn new() -> Self {
        Self { started: Instant::now(), base_ms: AtomicU64::new(0) }
    }

    /// Takes over the time that Redis reported. A late reply is behind what is already known and changes nothing; a reply that is
    /// far behind means that Redis's clock was set back.
    pub fn sync(&self, now: UnixMs) {
        const SET_BACK_MS: u64 = 1_000;
        let base = now.0.saturating_sub(self.elapsed_ms());
        let known = self.base_ms.fetch_max(base, Ordering::Relaxed);
        if known.saturating_sub(base) > SET_BACK_MS {
            self.base_ms.store(base, Ordering::Relaxed);
        }
    }

    /// The current time by Redis's clock.
    pub fn now(&self) -> UnixMs {
        match self.base_ms.load(Ordering::Relaxed) {
            0 => UnixMs::local_now(),
            base => UnixMs(base + self.elapsed_ms()),
        }
    }

    /// How long until a time; zero if it has passed.
    pub fn until(&self, at: UnixMs) -> Duration {
        Duration::from_millis(at.since(self.now()))
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

/// A duration in whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_does_not_set_the_clock_back_but_a_large_step_does() {
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
