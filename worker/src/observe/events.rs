//! Records what happens to tasks in the event stream of their queue.
//!
//! Events are for people who watch: they never hold a task up, and are dropped while Redis is away. Under load they are a sample of the
//! tasks, each with all its events, so that they cost the same however many tasks there are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::event::log::EventRetention;
use redial_core::protocol::event::TaskEvent;
use redial_core::{Db, Queue, QueueName, TaskId};
use redial_traces::load_sample::LoadSample;
use tokio_util::task::TaskTracker;

/// How long events are collected before they are written together.
const COLLECT_FOR: Duration = Duration::from_millis(50);
/// How long Redis may take to store them.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
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
    sample: LoadSample,
    pending: Mutex<PendingEvents>,
}

/// Events that are not written yet.
#[derive(Debug)]
struct PendingEvents {
    events: Vec<TaskEvent>,
    is_writer_due: bool,
    trimmed: Option<Instant>,
}

impl EventRecorder {
    fn new(queue: Queue, config: EventConfig, background: TaskTracker) -> Arc<Self> {
        let pending = Mutex::new(PendingEvents { events: Vec::new(), is_writer_due: false, trimmed: None });
        let sample = LoadSample::new(config.per_second.into());
        Arc::new(Self { queue, config, background, sample, pending })
    }

    /// Records an event of a task, if events are recorded and the task is in the sample. Tasks without an id always are.
    pub fn record(self: &Arc<Self>, task: Option<&TaskId>, event: impl FnOnce() -> TaskEvent) {
        if self.config.per_second == 0 || !task.is_none_or(|id| self.samples(id)) {
            return;
        }
        if !self.sample.admits_now() {
            return;
        }
        let mut pending = self.pending.lock();
        pending.events.push(event());
        if !std::mem::replace(&mut pending.is_writer_due, true) {
            self.background.spawn(self.clone().write());
        }
    }

    fn samples(&self, id: &TaskId) -> bool {
        self.sample.includes(|| {
            // The same in every worker, so that they sample the same tasks.
            let mut hasher = DefaultHasher::new();
            id.as_str().hash(&mut hasher);
            hasher.finish()
        })
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
