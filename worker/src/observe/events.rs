//! Records what happens to tasks in the event stream of their queue.
//!
//! Events are for people who watch: they never hold a task up, and are dropped while Redis is away. Under load they are a sample of the
//! tasks, each with all its events, so that they cost the same however many tasks there are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::event::log::EventRetention;
use redial_core::protocol::event::TaskEvent;
use redial_core::{Db, Queue, QueueName, TaskId};
use tokio_util::task::TaskTracker;

/// How long events are collected before they are written together.
const COLLECT_FOR: Duration = Duration::from_millis(50);
/// How long Redis may take to store them.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the sample is adjusted to the load.
const WINDOW: Duration = Duration::from_secs(1);
/// How often the retention is enforced.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// How many events are recorded, and for how long they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventConfig {
    /// How many each worker records of each queue, a second. 0: none.
    pub per_second: u32,
    /// What is kept of them in Redis.
    pub retention: EventRetention,
}

/// The recorders of all queues whose tasks a worker ends.
#[derive(Debug)]
pub struct EventRecorders {
    db: Db,
    config: EventConfig,
    background: TaskTracker,
    recorders: Mutex<HashMap<QueueName, Arc<EventRecorder>>>,
}

impl EventRecorders {
    /// Recorders for the queues of `db`. Whatever they write is tracked by `background`.
    pub fn new(db: Db, config: EventConfig, background: TaskTracker) -> Self {
        Self { db, config, background, recorders: Mutex::default() }
    }

    /// The recorder of a queue, or of the queue of a partition.
    pub fn of(&self, queue: &QueueName) -> Arc<EventRecorder> {
        let queue = &self.db.whole_name(queue);
        let mut recorders = self.recorders.lock();
        if let Some(recorder) = recorders.get(queue) {
            return recorder.clone();
        }
        let recorder = EventRecorder::new(self.db.queue(queue.clone()), self.config.clone(), self.background.clone());
        recorders.entry(queue.clone()).or_insert(recorder).clone()
    }
}

/// Records the events of one queue's tasks.
#[derive(Debug)]
pub struct EventRecorder {
    queue: Queue,
    config: EventConfig,
    background: TaskTracker,
    /// Tasks whose hash is not above it are in the sample.
    sampled_up_to: AtomicU64,
    pending: Mutex<PendingEvents>,
}

/// Events that are not written yet, and how many there were.
#[derive(Debug)]
struct PendingEvents {
    events: Vec<TaskEvent>,
    is_writer_due: bool,
    window_began: Instant,
    /// How many events of sampled tasks there were in this window.
    offered: u64,
    trimmed: Option<Instant>,
}

impl EventRecorder {
    fn new(queue: Queue, config: EventConfig, background: TaskTracker) -> Arc<Self> {
        let pending = PendingEvents {
            events: Vec::new(),
            is_writer_due: false,
            window_began: Instant::now(),
            offered: 0,
            trimmed: None,
        };
        let sampled_up_to = AtomicU64::new(u64::MAX);
        Arc::new(Self { queue, config, background, sampled_up_to, pending: Mutex::new(pending) })
    }

    /// Records an event of a task, if events are recorded and the task is in the sample. Tasks without an id always are.
    pub fn record(self: &Arc<Self>, task: Option<&TaskId>, event: impl FnOnce() -> TaskEvent) {
        if self.config.per_second == 0 || !task.is_none_or(|id| self.samples(id)) {
            return;
        }
        let mut pending = self.pending.lock();
        if let Some(sampled_up_to) = pending.offer(self.config.per_second.into(), Instant::now()) {
            let before = self.sampled_up_to.load(Ordering::Relaxed);
            self.sampled_up_to.store(sampled_up_to(before), Ordering::Relaxed);
        }
        if pending.offered > self.config.per_second.into() {
            return;
        }
        pending.events.push(event());
        if !std::mem::replace(&mut pending.is_writer_due, true) {
            self.background.spawn(self.clone().write());
        }
    }

    fn samples(&self, id: &TaskId) -> bool {
        let up_to = self.sampled_up_to.load(Ordering::Relaxed);
        // The same in every worker, so that they sample the same tasks.
        up_to == u64::MAX || {
            let mut hasher = DefaultHasher::new();
            id.as_str().hash(&mut hasher);
            hasher.finish() <= up_to
        }
    }

    /// Writes what has come together.
    async fn write(self: Arc<Self>) {
        tokio::time::sleep(COLLECT_FOR).await;
        let (events, trims) = {
            let mut pending = self.pending.lock();
            pending.is_writer_due = false;
            let trims = pending.trimmed.is_none_or(|at| at.elapsed() >= TRIM_INTERVAL);
            if trims {
                pending.trimmed = Some(Instant::now());
            }
            (std::mem::take(&mut pending.events), trims)
        };
        let retention = &self.config.retention;
        let written = tokio::time::timeout(WRITE_TIMEOUT, self.queue.append_events(&events, retention, trims)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, queue = %self.queue.name(), "could not record events"),
            Err(_) => tracing::debug!(queue = %self.queue.name(), "could not record events in time"),
        }
    }
}

impl PendingEvents {
    /// Counts an event. At the end of a window, returns how to adjust the sample: to what the events of the window would have
    /// fitted, and slowly back when there are few.
    fn offer(&mut self, per_second: u64, now: Instant) -> Option<impl Fn(u64) -> u64 + use<>> {
        let is_over = now.duration_since(self.window_began) >= WINDOW;
        let offered = self.offered;
        if is_over {
            self.window_began = now;
            self.offered = 0;
        }
        self.offered += 1;
        is_over.then_some(move |sampled_up_to: u64| {
            if offered > per_second {
                // A share of a number is not larger than the number.
                let share = u128::from(sampled_up_to) * u128::from(per_second) / u128::from(offered);
                u64::try_from(share).unwrap_or(u64::MAX)
            } else if offered < per_second / 2 {
                sampled_up_to.saturating_mul(2)
            } else {
                sampled_up_to
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> PendingEvents {
        let now = Instant::now();
        PendingEvents { events: Vec::new(), is_writer_due: false, window_began: now, offered: 0, trimmed: None }
    }

    /// What the sample is after seconds with this many events, each of another task.
    fn sample_after(events_a_second: u64, seconds: u64, mut sample: u64) -> u64 {
        let mut pending = pending();
        let began = pending.window_began;
        for second in 0..seconds {
            for n in 0..events_a_second {
                // Spreads them over all hashes.
                let hash = (second * events_a_second + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let now = began + Duration::from_secs(second) + Duration::from_micros(n);
                if hash <= sample
                    && let Some(adjust) = pending.offer(100, now)
                {
                    sample = adjust(sample);
                }
            }
        }
        sample
    }

    #[test]
    fn the_sample_follows_the_load_down_at_once_and_up_again() {
        assert_eq!(sample_after(50, 5, u64::MAX), u64::MAX);
        let busy = sample_after(10_000, 5, u64::MAX);
        // A hundredth of the tasks.
        let one_in = u64::MAX / busy;
        assert!((90..=250).contains(&one_in), "{one_in}");
        assert_eq!(sample_after(40, 40, busy), u64::MAX);
    }
}
