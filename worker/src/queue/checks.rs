//! When this worker looks next for checks that are due at one queue. See `checker.rs`.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The time of the next look, as far as this worker knows.
#[derive(Debug, Default)]
pub struct Checks {
    next: Mutex<Option<Instant>>,
    sooner: Notify,
}

impl Checks {
    /// A check is due after `wait`: look then, or earlier.
    pub fn due_in(&self, wait: Duration) {
        // A deadline beyond what this machine's clock can count is never reached.
        let Some(at) = Instant::now().checked_add(wait) else { return };
        let mut next = self.next.lock();
        if next.is_none_or(|known| at < known) {
            *next = Some(at);
            self.sooner.notify_one();
        }
    }

    /// Waits until it is time to look, and not before `earliest`. What becomes known from then on counts for the next look.
    pub async fn due(&self, earliest: Instant) {
        loop {
            let next = *self.next.lock();
            let Some(at) = next else {
                self.sooner.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(at.max(earliest).into()) => {
                    *self.next.lock() = None;
                    return;
                }
                () = self.sooner.notified() => {}
            }
        }
    }
}
