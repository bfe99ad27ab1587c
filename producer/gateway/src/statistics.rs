//! What workers counted, added up for those who watch. Each entry in Redis is read once, however many watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redial_core::statistics::counts::{Statistics, UpstreamStatistics};
use redial_core::statistics::log::{StatisticsPeriod, StatisticsReader};
use redial_core::{Error, Queue, QueueName, UnixMs};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::problem::Problem;

/// How many readers there are at a time: each keeps an hour or five minutes of a queue.
const MAX_READERS: usize = 256;

/// The time that a summary is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatisticsWindow {
    Minute,
    FiveMinutes,
    Hour,
}

impl StatisticsWindow {
    /// Reads it; a minute by default.
    ///
    /// # Errors
    /// There is no such window.
    pub fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("minute") => Ok(Self::Minute),
            Some("five_minutes") => Ok(Self::FiveMinutes),
            Some("hour") => Ok(Self::Hour),
            Some(other) => {
                let detail = format!("the parameter window is {other:?}: use minute, five_minutes or hour");
                Err(Problem::invalid(detail))
            }
        }
    }

    fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::FiveMinutes => 300,
            Self::Hour => 3_600,
        })
    }

    fn period(self) -> StatisticsPeriod {
        if self == Self::Hour { StatisticsPeriod::Hour } else { StatisticsPeriod::Minutes }
    }
}

/// Whoever watches the same queue shares its reader.
type SharedReader = Arc<Mutex<StatisticsReader>>;

/// The readers of all queues that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct StatisticsReaders {
    readers: Mutex<HashMap<(QueueName, bool), SharedReader>>,
}

impl StatisticsReaders {
    /// Adds what the workers of a queue counted.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn add(&self, summary: &mut StatisticsSummary, queue: Queue) -> Result<(), Error> {
        let period = summary.window.period();
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
        reader.refresh(summary.now).await?;
        summary.add(&reader);
        Ok(())
    }
}

/// What was counted in a window, and in each step of the time that is kept.
#[derive(Debug)]
pub(crate) struct StatisticsSummary {
    window: StatisticsWindow,
    now: UnixMs,
    since: UnixMs,
    total: Statistics,
    steps: Vec<Statistics>,
}

impl StatisticsSummary {
    /// An empty one.
    pub fn new(window: StatisticsWindow, now: UnixMs) -> Self {
        let length = u64::try_from(window.length().as_millis()).unwrap_or(u64::MAX);
        let since = UnixMs(now.0.saturating_sub(length));
        Self { window, now, since, total: Statistics::default(), steps: Vec::new() }
    }

    fn add(&mut self, reader: &StatisticsReader) {
        self.total.add(&reader.since(self.since));
        let steps = reader.steps(self.now);
        self.steps.resize_with(steps.len(), Statistics::default);
        for (sum, step) in self.steps.iter_mut().zip(&steps) {
            sum.add(step);
        }
    }

    /// As programs read it.
    pub fn to_json(&self) -> Value {
        let upstreams = self.total.upstreams.iter().map(|(name, upstream)| upstream_json(name, upstream));
        let steps = self.steps.iter().map(|step| {
            let attempts: u64 = step.upstreams.values().map(UpstreamStatistics::attempts).sum();
            let good: u64 = step.upstreams.values().map(|upstream| upstream.good).sum();
            json!({"attempts": attempts, "good": good, "completed": sum(&step.completed), "dead": sum(&step.dead)})
        });
        json!({
            "now_ms": self.now,
            "window_ms": u64::try_from(self.window.length().as_millis()).unwrap_or(u64::MAX),
            "step_ms": u64::try_from(self.window.period().step().as_millis()).unwrap_or(u64::MAX),
            "completed": self.total.completed,
            "dead": self.total.dead,
            "waits": self.total.waits,
            "upstreams": upstreams.collect::<Vec<_>>(),
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

fn sum(counts: &std::collections::BTreeMap<String, u64>) -> u64 {
    counts.values().sum()
}

fn upstream_json(name: &str, upstream: &UpstreamStatistics) -> Value {
    let percentile = |share| upstream.latency.percentile(share);
    json!({
        "upstream": name,
        "attempts": upstream.attempts(),
        "good": upstream.good,
        "retries": upstream.retries,
        "rate_limited": upstream.statuses.get(&429).copied().unwrap_or(0),
        "statuses": upstream.statuses,
        "failures": upstream.failures,
        "p50_ms": percentile(0.5),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
    })
}
