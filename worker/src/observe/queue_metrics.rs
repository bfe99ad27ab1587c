//! What a worker shows of its queues: what there is to do, and what gets done. The series of a queue that every task needs are looked up
//! without building a label.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use redial_core::QueueName;
use redial_core::queue::backlog::Backlog;

/// The bounds of the buckets of how long tasks wait for their first attempt, in seconds.
const START_DELAY_SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0];

/// Names a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabel {
    queue: String,
}

impl QueueLabel {
    /// Names this queue.
    pub fn new(queue: &str) -> Self {
        Self { queue: queue.to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    queue: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    queue: String,
    cause: &'static str,
}

/// What every task of a queue is counted in.
#[derive(Debug)]
struct QueueSeries {
    completed: Counter,
    start_delay: Histogram,
}

/// The metrics of the queues.
#[derive(Debug)]
pub struct QueueMetrics {
    completed: Family<QueueLabel, Counter>,
    start_delay: Family<QueueLabel, Histogram>,
    tasks: Family<StateLabels, Gauge>,
    parked: Family<CauseLabels, Gauge>,
    admissible: Family<QueueLabel, Gauge>,
    by_queue: RwLock<HashMap<String, Arc<QueueSeries>>>,
    /// The parts of each queue as they were last measured.
    parts: Mutex<HashMap<String, HashMap<QueueName, PartBacklog>>>,
}

/// What there is to do in a queue, or in one partition of it, and how many of its tasks this worker holds.
#[derive(Debug, Clone, Copy)]
pub struct PartBacklog {
    pub backlog: Backlog,
    pub held: usize,
}

impl QueueMetrics {
    /// All of them at zero, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            completed: Family::default(),
            start_delay: Family::new_with_constructor(|| Histogram::new(START_DELAY_SECONDS)),
            tasks: Family::default(),
            parked: Family::default(),
            admissible: Family::default(),
            by_queue: RwLock::default(),
            parts: Mutex::default(),
        };
        registry.register("tasks_completed", "Tasks that ended with a good answer", metrics.completed.clone());
        registry.register(
            "start_delay_seconds",
            "Time from the push of a task, or from when it may start, to its first attempt",
            metrics.start_delay.clone(),
        );
        registry.register("tasks", "Tasks by state; active: held by this worker", metrics.tasks.clone());
        registry.register("parked_tasks", "Parked tasks, by what they wait for", metrics.parked.clone());
        registry.register(
            "admissible_backlog",
            "Tasks that could be called now if there were more workers: waiting or due, and not held back by anything",
            metrics.admissible.clone(),
        );
        metrics
    }

    /// A task ended with a good answer.
    pub fn completed(&self, queue: &str) {
        self.series(queue).completed.inc();
    }

    /// The first attempt of a task begins, this long after it could have.
    pub fn started(&self, queue: &str, delay: Duration) {
        self.series(queue).start_delay.observe(delay.as_secs_f64());
    }

    /// How many tasks of a queue are in which state, as Redis says; and how many of them this worker holds. Those of its partitions add up.
    pub fn backlog(&self, queue: &str, part: &QueueName, measured: PartBacklog) {
        let (mut backlog, mut active) = (Backlog::default(), 0);
        {
            let mut queues = self.parts.lock();
            let parts = queues.entry(queue.to_owned()).or_default();
            parts.insert(part.clone(), measured);
            for part in parts.values() {
                backlog.add(&part.backlog);
                active += part.held;
            }
        }
        let counts = backlog.counts;
        let states = [
            ("waiting", counts.waiting),
            ("scheduled", counts.scheduled),
            ("parked", counts.parked),
            ("dead", counts.dead),
            ("active", active as u64),
        ];
        for (state, count) in states {
            self.tasks.get_or_create(&StateLabels { queue: queue.to_owned(), state }).set(whole(count));
        }
        for (cause, count) in backlog.parked_by_cause() {
            let labels = CauseLabels { queue: queue.to_owned(), cause: cause.as_str() };
            self.parked.get_or_create(&labels).set(whole(count));
        }
        self.admissible.get_or_create(&QueueLabel::new(queue)).set(whole(backlog.admissible));
    }

    fn series(&self, queue: &str) -> Arc<QueueSeries> {
        if let Some(series) = self.by_queue.read().get(queue) {
            return series.clone();
        }
        let series = || {
            let label = QueueLabel::new(queue);
            let (completed, start_delay) = (&self.completed, &self.start_delay);
            Arc::new(QueueSeries {
                completed: completed.get_or_create_owned(&label),
                start_delay: start_delay.get_or_create_owned(&label),
            })
        };
        self.by_queue.write().entry(queue.to_owned()).or_insert_with(series).clone()
    }
}

/// A count as a gauge shows it.
pub fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
