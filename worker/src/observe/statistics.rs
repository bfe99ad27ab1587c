//! Counts what this worker does at each queue, in memory, and publishes the counts every few seconds for those who watch: the dashboard.
//!
//! While nothing happens, nothing is sent. Counts that Redis does not take are published with the next ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redial_core::protocol::event::WaitCause;
use redial_core::statistics::counts::{Statistics, count};
use redial_core::statistics::log::StatisticsPeriod;
use redial_core::{Db, Error, Queue, QueueName, Reason, Source, UnixMs};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How long Redis may take to store what was counted.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// What metrics call an attempt that brought a good answer.
const GOOD: &str = "ok";

/// The recorders of all queues whose tasks a worker ends.
#[derive(Debug)]
pub struct StatisticsRecorders {
    db: Db,
    is_on: bool,
    recorders: Mutex<HashMap<QueueName, Arc<StatisticsRecorder>>>,
}

/// Counts what happens to the tasks of one queue.
#[derive(Debug)]
pub struct StatisticsRecorder {
    queue: Queue,
    is_on: bool,
    counted: Mutex<Counted>,
}

/// What is not published yet.
#[derive(Debug, Default)]
struct Counted {
    /// Since the last publication.
    lately: Statistics,
    /// What was published since the last publication for the hour.
    this_minute: Statistics,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct CountedAttempt {
    /// The status of its response, if there was one.
    pub status: Option<u16>,
    /// What it is called in metrics.
    pub label: &'static str,
    /// How long it took.
    pub took_ms: u64,
}

impl StatisticsRecorders {
    /// Recorders for the queues of `db`, which count nothing unless `is_on`.
    pub fn new(db: Db, is_on: bool) -> Self {
        Self { db, is_on, recorders: Mutex::default() }
    }

    /// The recorder of a queue, or of the queue of a partition.
    pub fn of(&self, queue: &QueueName) -> Arc<StatisticsRecorder> {
        let queue = &self.db.whole_name(queue);
        let mut recorders = self.recorders.lock();
        if let Some(recorder) = recorders.get(queue) {
            return recorder.clone();
        }
        let (queue_in_redis, is_on) = (self.db.queue(queue.clone()), self.is_on);
        let recorder = StatisticsRecorder { queue: queue_in_redis, is_on, counted: Mutex::default() };
        recorders.entry(queue.clone()).or_insert(Arc::new(recorder)).clone()
    }

    /// Publishes what was counted, again and again, until it is aborted. `now` tells Redis's time.
    pub async fn publish_regularly(&self, now: impl Fn() -> UnixMs) {
        if !self.is_on {
            return std::future::pending().await;
        }
        let step = StatisticsPeriod::Minutes.step();
        let mut ticks = interval_at(Instant::now() + step, step);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut minute_began = Instant::now();
        loop {
            ticks.tick().await;
            let is_minute_over = minute_began.elapsed() >= StatisticsPeriod::Hour.step();
            if is_minute_over {
                minute_began = Instant::now();
            }
            self.publish(now(), is_minute_over).await;
        }
    }

    /// Publishes what was counted until now: also for the hour, if its minute is over.
    pub async fn publish(&self, now: UnixMs, is_minute_over: bool) {
        let recorders: Vec<Arc<StatisticsRecorder>> = self.recorders.lock().values().cloned().collect();
        // Side by side: a queue on a node that does not answer holds up no other.
        let publish = |recorder: Arc<StatisticsRecorder>| async move { recorder.publish(now, is_minute_over).await };
        recorders.into_iter().map(publish).collect::<JoinSet<()>>().join_all().await;
    }
}

impl StatisticsRecorder {
    /// An attempt at the upstream of this URL ended.
    pub fn attempt(&self, upstream: &str, attempt: CountedAttempt) {
        let CountedAttempt { status, label, took_ms } = attempt;
        self.record(|counted| counted.lately.upstream(upstream).attempt(status, label, label == GOOD, took_ms));
    }

    /// A failed attempt at the upstream of this URL will be followed by another one.
    pub fn retry(&self, upstream: &str) {
        self.record(|counted| counted.lately.upstream(upstream).retries += 1);
    }

    /// A task has a good answer, from there.
    pub fn completed(&self, source: Source) {
        self.record(|counted| count(&mut counted.lately.completed, source.as_str()));
    }

    /// A task ended without one.
    pub fn dead(&self, reason: Reason) {
        self.record(|counted| count(&mut counted.lately.dead, reason.as_str()));
    }

    /// A task waits from now on.
    pub fn waiting(&self, cause: WaitCause) {
        self.record(|counted| count(&mut counted.lately.waits, cause.as_str()));
    }

    fn record(&self, record: impl FnOnce(&mut Counted)) {
        if self.is_on {
            record(&mut self.counted.lock());
        }
    }

    async fn publish(&self, now: UnixMs, is_minute_over: bool) {
        let lately = std::mem::take(&mut self.counted.lock().lately);
        let is_published = self.append(StatisticsPeriod::Minutes, &lately, now).await;
        let this_minute = {
            let mut counted = self.counted.lock();
            if is_published {
                counted.this_minute.add(&lately);
            } else {
                counted.lately.add(&lately);
            }
            if !is_minute_over {
                return;
            }
            std::mem::take(&mut counted.this_minute)
        };
        if !self.append(StatisticsPeriod::Hour, &this_minute, now).await {
            self.counted.lock().this_minute.add(&this_minute);
        }
    }

    /// Whether there is nothing to publish, or it was published.
    async fn append(&self, period: StatisticsPeriod, statistics: &Statistics, now: UnixMs) -> bool {
        if statistics.is_empty() {
            return true;
        }
        let append = self.queue.append_statistics(period, statistics, now);
        let why = match tokio::time::timeout(WRITE_TIMEOUT, append).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error,
            Err(_) => Error::Data(format!("no answer within {WRITE_TIMEOUT:?}")),
        };
        tracing::debug!(error = %why, queue = %self.queue.name(), "could not publish statistics; the next ones contain them");
        false
    }
}
