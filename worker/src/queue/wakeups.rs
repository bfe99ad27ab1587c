//! Wakes the fetchers when there may be something to claim.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::QueueName;
use tokio::sync::Notify;

/// How other parts wake the fetcher of one queue, and when the next task that it knows of is due.
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

/// The wakeups of all queues of a worker.
#[derive(Debug, Default)]
pub struct QueueWakeups(Mutex<HashMap<QueueName, Arc<Wakeups>>>);

impl QueueWakeups {
    /// The wakeups of a queue.
    pub fn of(&self, queue: &QueueName) -> Arc<Wakeups> {
        self.0.lock().entry(queue.clone()).or_default().clone()
    }

    /// Makes the fetchers of these queues claim again now, as far as this worker serves them.
    pub fn wake(&self, queues: &[QueueName]) {
        let all = self.0.lock();
        queues.iter().filter_map(|queue| all.get(queue)).for_each(|wakeups| wakeups.wake());
    }
}
