//! Wakes the fetcher when there may be something to claim.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How other parts wake the fetcher, and when the next task that it knows of is due.
#[derive(Debug, Default)]
pub struct Wakeups {
    notify: Notify,
    next_due: Mutex<Option<Instant>>,
}

impl Wakeups {
    /// Makes the fetcher claim again now.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// A task is due after `wait`. Wakes the fetcher if it knows of nothing that is due earlier.
    pub fn task_due_in(&self, wait: Duration) {
        let due = Instant::now() + wait;
        let mut next_due = self.next_due.lock();
        if next_due.is_none_or(|known| due < known) {
            *next_due = Some(due);
            self.notify.notify_one();
        }
    }

    /// Records what the fetcher's own claims say about the next due time.
    pub fn set_next_due(&self, due: Option<Instant>) {
        *self.next_due.lock() = due;
    }

    /// Waits until the fetcher should claim again.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}
