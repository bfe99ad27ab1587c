//! A sample that shrinks under load, so that what is recorded costs the same however much there is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the sample is adjusted to the load.
const WINDOW: Duration = Duration::from_secs(1);

/// Everything, as long as there are few a second; of more, a share that is chosen by hash.
#[derive(Debug)]
pub struct LoadSample {
    per_second: u64,
    /// What has a hash that is not above it is in the sample.
    up_to: AtomicU64,
    window: Mutex<Window>,
}

/// How many of the sample there were in this window.
#[derive(Debug)]
struct Window {
    began: Instant,
    offered: u64,
}

impl LoadSample {
    /// A sample of so many a second.
    pub fn new(per_second: u64) -> Self {
        let window = Window { began: Instant::now(), offered: 0 };
        Self { per_second, up_to: AtomicU64::new(u64::MAX), window: Mutex::new(window) }
    }

    /// Whether what has this hash is in the sample. Those who see the same load agree. Not asked for while everything is.
    pub fn includes(&self, hash: impl FnOnce() -> u64) -> bool {
        let up_to = self.up_to.load(Ordering::Relaxed);
        up_to == u64::MAX || hash() <= up_to
    }

    /// Counts one that is in the sample. `false`: there were enough in this second.
    pub fn admits_now(&self) -> bool {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        let mut window = self.window.lock();
        if now.duration_since(window.began) >= WINDOW {
            let up_to = self.up_to.load(Ordering::Relaxed);
            self.up_to.store(self.adjusted(up_to, window.offered), Ordering::Relaxed);
            *window = Window { began: now, offered: 0 };
        }
        window.offered += 1;
        window.offered <= self.per_second
    }

    /// The sample that would have fitted a window with so many of it; it grows slowly when there are few.
    fn adjusted(&self, up_to: u64, offered: u64) -> u64 {
        if offered > self.per_second {
            // A share of a number is not larger than the number.
            let share = u128::from(up_to) * u128::from(self.per_second) / u128::from(offered);
            u64::try_from(share).unwrap_or(u64::MAX)
        } else if offered < self.per_second / 2 {
            up_to.saturating_mul(2)
        } else {
            up_to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds with this many a second, of which none was admitted beyond 100; returns when the next one begins.
    fn pass(sample: &LoadSample, from: Instant, a_second: u64, seconds: u64) -> Instant {
        for second in 0..seconds {
            let mut admitted = 0;
            for n in 0..a_second {
                // Spreads them over all hashes.
                let hash = (second * a_second + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let now = from + Duration::from_secs(second) + Duration::from_micros(n);
                admitted += u64::from(sample.includes(|| hash) && sample.admits_at(now));
            }
            assert!(admitted <= 100, "{admitted}");
        }
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn the_sample_follows_the_load_down_at_once_and_up_again() {
        let sample = LoadSample::new(100);
        let up_to = || sample.up_to.load(Ordering::Relaxed);
        let now = pass(&sample, Instant::now(), 50, 5);
        assert_eq!(up_to(), u64::MAX);
        let now = pass(&sample, now, 10_000, 5);
        // A hundredth.
        let one_in = u64::MAX / up_to();
        assert!((90..=250).contains(&one_in), "{one_in}");
        pass(&sample, now, 40, 40);
        assert_eq!(up_to(), u64::MAX);
    }
}
