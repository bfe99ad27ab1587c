//! Work in the background that several things share, and that no one of them may use up: each has a lane of its own.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many futures of one lane run at a time.
const MAX_RUNNING: usize = 16;
/// How many more of one lane wait for that.
const MAX_WAITING: usize = 1_000;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs futures, of each lane a few at a time.
#[derive(Default)]
pub(crate) struct BackgroundHandle {
    lanes: Mutex<HashMap<String, Lane>>,
    idle: Notify,
}

#[derive(Default)]
struct Lane {
    running: usize,
    waiting: VecDeque<Work>,
}

impl BackgroundHandle {
    /// Runs `work` in the lane of this name, soon. `false`: too much waits there, and it was dropped.
    pub(crate) fn spawn(self: &Arc<Self>, lane: &str, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut lanes = self.lanes();
        let entry = lanes.entry(lane.to_owned()).or_default();
        if entry.running < MAX_RUNNING {
            entry.running += 1;
            tokio::spawn(self.clone().run(lane.to_owned(), Box::pin(work)));
        } else if entry.waiting.len() < MAX_WAITING {
            entry.waiting.push_back(Box::pin(work));
        } else {
            return false;
        }
        true
    }

    /// Waits until nothing runs any more.
    pub(crate) async fn all_done(&self) {
        loop {
            let idle = self.idle.notified();
            if self.lanes().is_empty() {
                return;
            }
            idle.await;
        }
    }

    async fn run(self: Arc<Self>, lane: String, first: Work) {
        let mut next = Some(first);
        while let Some(work) = next {
            work.await;
            next = self.next(&lane);
        }
    }

    /// What to run next in place of something that has ended.
    fn next(&self, lane: &str) -> Option<Work> {
        let mut lanes = self.lanes();
        let entry = lanes.get_mut(lane)?;
        if let Some(work) = entry.waiting.pop_front() {
            return Some(work);
        }
        entry.running -= 1;
        if entry.running == 0 {
            lanes.remove(lane);
        }
        if lanes.is_empty() {
            self.idle.notify_waiters();
        }
        None
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        // Nothing panics while it holds the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for BackgroundHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackgroundHandle").field("lanes", &self.lanes().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_lane_that_is_stuck_holds_up_no_other_and_takes_a_bounded_number() {
        let background = Arc::new(BackgroundHandle::default());
        let done = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(tokio::sync::Semaphore::new(0));
        let mut taken = 0;
        for _ in 0..2 * MAX_WAITING {
            let (open, done) = (open.clone(), done.clone());
            taken += usize::from(background.spawn("stuck", async move {
                let _permit = open.acquire().await;
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }
        assert_eq!(taken, MAX_RUNNING + MAX_WAITING);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        assert!(background.spawn("free", async move {
            let _ = sender.send(());
        }));
        assert_eq!(receiver.await, Ok(()));
        assert_eq!(done.load(Ordering::Relaxed), 0);
        open.add_permits(1);
        background.all_done().await;
        assert_eq!(done.load(Ordering::Relaxed), taken);
        assert!(background.lanes().is_empty());
    }
}
