//! What there is to see of a fleet. All of it are numbers that Redis has ready, or that cost a bounded number of short commands.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::breaker::BreakerState;
use redial_core::fleet::queues::{BusyWorker, busy_workers};
use redial_core::limit::LimitStatus;
use redial_core::queue::admin::Overview;
use redial_core::queue::batch_progress::BatchProgress;
use redial_core::queue::dead_groups::{CountedGroups, GroupCounts};
use redial_core::queue::waits::{MAX_WAIT_LISTS, QueueWaits};
use redial_core::statistics::summary::{StatisticsReaders, StatisticsSummary, StatisticsWindow};
use redial_core::{Db, Error, QueueName, UnixMs};

/// How many queues are shown.
const MAX_QUEUES: usize = 200;
/// How many limits are shown: those that were used last.
const MAX_LIMITS: usize = 100;
/// Of how many queues the dead letters are counted.
const MAX_COUNTED_QUEUES: usize = 20;
/// How long counting them may take, for all queues.
const MAX_COUNT_TIME: Duration = Duration::from_secs(3);
/// A rate is that of the time between so many frames.
const RATE_SAMPLES: usize = 6;

/// The fleet at one moment.
#[derive(Debug)]
pub struct FleetFrame {
    /// By Redis's clock.
    pub now: UnixMs,
    pub queues: Vec<ObservedQueue>,
    /// What was counted in the last minute, of all queues.
    pub statistics: StatisticsSummary,
    /// The breakers that are not closed, and since when.
    pub breakers: Vec<(String, BreakerState, UnixMs)>,
    pub workers: Vec<BusyWorker>,
    pub limits: Vec<LimitStatus>,
}

/// A queue at one moment.
#[derive(Debug)]
pub struct ObservedQueue {
    pub name: QueueName,
    pub at: Overview,
    /// How many tasks end in a second.
    pub rate: f64,
    pub waits: QueueWaits,
    pub batches: Vec<BatchProgress>,
}

/// The dead letters of some queues by reason and upstream.
pub type ObservedLetters = Vec<(QueueName, CountedGroups)>;

/// Reads what there is to see.
#[derive(Debug)]
pub struct FleetObserver {
    db: Db,
    names: Vec<QueueName>,
    readers: StatisticsReaders,
    letters: Arc<GroupCounts>,
    /// How many tasks of each queue had ended by when.
    ended: HashMap<QueueName, VecDeque<(UnixMs, u64)>>,
}

impl FleetObserver {
    /// Of these queues; of all that are known, if none is named.
    pub fn new(db: Db, names: Vec<QueueName>) -> Self {
        let (readers, letters) = (StatisticsReaders::default(), Arc::default());
        Self { db, names, readers, letters, ended: HashMap::new() }
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// What counts the dead letters: on its own, as it may take longer than a frame.
    pub fn letter_counter(&self) -> LetterCounter {
        LetterCounter { db: self.db.clone(), counts: self.letters.clone() }
    }

    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn frame(&mut self) -> Result<FleetFrame, Error> {
        let db = self.db.clone();
        let known = if self.names.is_empty() { db.known_queues().await? } else { self.names.iter().cloned().collect() };
        let overviews = db.overviews(known.into_iter().take(MAX_QUEUES)).await?;
        let (now, lists) = (db.now().await?, db.recent_wait_lists(MAX_WAIT_LISTS).await?);
        let workers = busy_workers(&overviews);
        let window = StatisticsWindow::Minute;
        let mut statistics = StatisticsSummary::new(window, now);
        let mut queues = Vec::with_capacity(overviews.len());
        for (name, at) in overviews {
            let queue = db.queue(name.clone());
            let counted = self.readers.summary(window, now, queue.clone()).await?;
            let rate = self.rate(&name, &at, now).unwrap_or_else(|| rate_of(&counted));
            statistics.add(&counted);
            queues.push(ObservedQueue {
                rate,
                waits: queue.waits(&lists).await?,
                batches: queue.batches().await?,
                name,
                at,
            });
        }
        let (breakers, limits) = (db.breakers().list().await?, db.limits().recent(MAX_LIMITS).await?);
        Ok(FleetFrame { now, queues, statistics, breakers, workers, limits })
    }

    /// How many tasks ended in a second since the frames before; `None` in the first.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    fn rate(&mut self, name: &QueueName, at: &Overview, now: UnixMs) -> Option<f64> {
        let samples = self.ended.entry(name.clone()).or_default();
        samples.push_back((now, at.completed + at.died));
        while samples.len() > RATE_SAMPLES {
            samples.pop_front();
        }
        let ((began, before), (ended, after)) = (samples.front()?, samples.back()?);
        let ms = ended.since(*began);
        (ms > 0).then(|| 1_000.0 * after.saturating_sub(*before) as f64 / ms as f64)
    }
}

/// By what workers counted in the last minute.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn rate_of(counted: &StatisticsSummary) -> f64 {
    let ended: u64 = counted.total.completed.values().chain(counted.total.dead.values()).sum();
    ended as f64 / counted.window.length().as_secs_f64()
}

/// Counts dead letters by reason and upstream.
#[derive(Debug, Clone)]
pub struct LetterCounter {
    db: Db,
    counts: Arc<GroupCounts>,
}

impl LetterCounter {
    /// Those of the queues that have the most.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn count(&self, mut queues: Vec<(QueueName, u64)>) -> Result<ObservedLetters, Error> {
        queues.retain(|(_, dead)| *dead > 0);
        queues.sort_by_key(|(_, dead)| Reverse(*dead));
        let (mut letters, began) = (Vec::new(), Instant::now());
        for (name, _) in queues.into_iter().take(MAX_COUNTED_QUEUES) {
            let counted =
                self.counts.of(&self.db.queue(name.clone()), MAX_COUNT_TIME.saturating_sub(began.elapsed())).await?;
            letters.push((name, counted));
        }
        Ok(letters)
    }
}

impl FleetFrame {
    /// How many dead letters each queue has.
    pub fn dead(&self) -> Vec<(QueueName, u64)> {
        self.queues.iter().map(|queue| (queue.name.clone(), queue.at.dead)).collect()
    }
}
