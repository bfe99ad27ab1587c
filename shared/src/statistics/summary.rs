//! What workers counted, added up for those who watch. Each entry in Redis is read once, however many watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::counts::Statistics;
use super::log::{StatisticsPeriod, StatisticsReader};
use crate::script::millis;
use crate::{Error, Queue, QueueName, UnixMs};

/// How many readers there are at a time: each keeps an hour or five minutes of a queue.
const MAX_READERS: usize = 256;

/// The time that a summary is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticsWindow {
    /// The last minute.
    Minute,
    /// The last five minutes.
    FiveMinutes,
    /// The last hour.
    Hour,
}

impl StatisticsWindow {
    /// The window with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "minute" => Some(Self::Minute),
            "five_minutes" => Some(Self::FiveMinutes),
            "hour" => Some(Self::Hour),
            _ => None,
        }
    }

    /// How long it is.
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::FiveMinutes => 300,
            Self::Hour => 3_600,
        })
    }

    /// What is read for it.
    pub fn period(self) -> StatisticsPeriod {
        if self == Self::Hour { StatisticsPeriod::Hour } else { StatisticsPeriod::Minutes }
    }
}

/// Whoever watches the same queue shares its reader.
type SharedReader = Arc<Mutex<StatisticsReader>>;

/// The readers of all queues that somebody watches.
#[derive(Debug, Default)]
pub struct StatisticsReaders {
    readers: Mutex<HashMap<(QueueName, bool), SharedReader>>,
}

impl StatisticsReaders {
    /// What the workers of a queue counted in the window that ends now, by Redis's time.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn summary(
        &self,
        window: StatisticsWindow,
        now: UnixMs,
        queue: Queue,
    ) -> Result<StatisticsSummary, Error> {
        let period = window.period();
        let key = (queue.name().clone(), period == StatisticsPeriod::Hour);
        let reader = {
            let mut readers = self.readers.lock().await;
            if readers.len() >= MAX_READERS && !readers.contains_key(&key) {
                readers.clear();
            }
            let new = || Arc::new(Mutex::new(StatisticsReader::new(queue, period)));
            readers.entry(key).or_insert_with(new).clone()
        };
        let mut reader = reader.lock().await;
        reader.refresh(now).await?;
        let since = UnixMs(now.0.saturating_sub(millis(window.length())));
        Ok(StatisticsSummary { window, now, total: reader.since(since), steps: reader.steps(now) })
    }
}

/// What was counted in a window, and in each step of the time that is kept.
#[derive(Debug)]
pub struct StatisticsSummary {
    /// The window.
    pub window: StatisticsWindow,
    /// When it ends.
    pub now: UnixMs,
    /// What was counted in it.
    pub total: Statistics,
    /// What was counted in each step of the window's period, oldest first.
    pub steps: Vec<Statistics>,
}

impl StatisticsSummary {
    /// An empty one.
    pub fn new(window: StatisticsWindow, now: UnixMs) -> Self {
        Self { window, now, total: Statistics::default(), steps: Vec::new() }
    }

    /// Adds what was counted in another queue.
    pub fn add(&mut self, other: &Self) {
        self.total.add(&other.total);
        self.steps.resize_with(other.steps.len(), Statistics::default);
        for (sum, step) in self.steps.iter_mut().zip(&other.steps) {
            sum.add(step);
        }
    }
}
