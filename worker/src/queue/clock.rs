//! A worker's estimate of Redis TIME: the last time that Redis reported, plus what has elapsed since. One per queue, because in a
//! Cluster each queue may be on a node with its own clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::UnixMs;

/// An estimate of Redis TIME, accurate to a round trip. For decisions that no two workers must agree on.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// Redis TIME at the moment `started`; `None` until Redis has reported it.
    base_ms: Mutex<Option<u64>>,
}

impl Clock {
    /// A clock that follows this machine until the first [`sync`](Self::sync).
    pub fn new() -> Self {
        Self { started: Instant::now(), base_ms: Mutex::default() }
    }

    /// Takes over the time that Redis reported between these two moments. Each reply bounds the time from both sides: an estimate
    /// within the bounds stays as it is, any other one moves to the nearer bound. So a late reply changes nothing, and whichever way and
    /// however little Redis's clock was set, the next reply shows it.
    pub fn sync(&self, now: UnixMs, sent: Instant, received: Instant) {
        let at = |moment: Instant| millis(moment.saturating_duration_since(self.started));
        let earliest = now.0.saturating_sub(at(received));
        // Redis and `at` both leave out the fraction of a millisecond.
        let latest = (now.0 + 1).saturating_sub(at(sent)).max(earliest);
        let mut base = self.base_ms.lock();
        *base = Some(base.map_or(earliest, |base| base.clamp(earliest, latest)));
    }

    /// The current time by Redis's clock.
    pub fn now(&self) -> UnixMs {
        match *self.base_ms.lock() {
            None => UnixMs::local_now(),
            Some(base) => UnixMs(base + millis(self.started.elapsed())),
        }
    }

    /// How long until a time; zero if it has passed.
    pub fn until(&self, at: UnixMs) -> Duration {
        Duration::from_millis(at.since(self.now()))
    }
}

/// A duration in whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock, and how long after its start a command is sent and answered, in ms.
    fn sync(clock: &Clock, now: u64, sent: u64, received: u64) -> u64 {
        let at = |ms| clock.started + Duration::from_millis(ms);
        clock.sync(UnixMs(now), at(sent), at(received));
        clock.base_ms.lock().unwrap_or_default()
    }

    #[test]
    fn a_late_reply_changes_nothing() {
        let clock = Clock::new();
        assert_eq!(sync(&clock, 1_000_100, 99, 100), 1_000_000);
        assert_eq!(sync(&clock, 1_000_200, 190, 700), 1_000_000, "it was 500 ms on its way back");
        assert_eq!(sync(&clock, 1_000_900, 300, 900), 1_000_000, "it was 600 ms on its way there");
        assert!(clock.now().0.abs_diff(1_000_000) < 5_000);
    }

    #[test]
    fn any_step_is_taken_over_with_the_next_reply() {
        for step in [-3_600_000, -800, -20, 20, 9_000] {
            let clock = Clock::new();
            sync(&clock, 10_000_100, 99, 100);
            let base = sync(&clock, 10_000_200_u64.saturating_add_signed(step), 198, 200);
            assert!(base.abs_diff(10_000_000_u64.saturating_add_signed(step)) <= 3, "{step}: {base}");
        }
    }

    #[test]
    fn what_redis_says_is_not_due_yet_is_not_due_here() {
        let clock = Clock::new();
        sync(&clock, 1_000_100, 99, 100);
        // 40 ms later by Redis's clock, which was set back by 60 ms, and answered within 2 ms.
        sync(&clock, 1_000_140, 199, 201);
        let ahead = UnixMs(clock.base_ms.lock().unwrap_or_default() + 201);
        assert!(UnixMs(1_000_150).since(ahead) >= 7, "{ahead}");
    }
}
