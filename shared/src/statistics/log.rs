//! Publishing what was counted, and reading what all workers of a queue published.

use std::collections::VecDeque;
use std::time::Duration;

use redis::Value;

use super::counts::Statistics;
use crate::script::millis;
use crate::{EntryId, Error, Queue, UnixMs};

/// The field of an entry: statistics as JSON.
const FIELD: &str = "counts";
/// How many entries are read at a time.
const PAGE_SIZE: usize = 500;

/// How closely statistics are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticsPeriod {
    /// What workers publish every five seconds, for the last five minutes.
    Minutes,
    /// What they publish every minute, for the last hour.
    Hour,
}

impl StatisticsPeriod {
    /// How often workers publish.
    pub fn step(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minutes => 5,
            Self::Hour => 60,
        })
    }

    /// For how long it is kept.
    pub fn kept_for(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minutes => 5 * 60,
            Self::Hour => 60 * 60,
        })
    }
}

/// Adds up what the workers of a queue publish, and reads each entry once.
#[derive(Debug)]
pub struct StatisticsReader {
    queue: Queue,
    period: StatisticsPeriod,
    /// What was published, and when, oldest first.
    published: VecDeque<(UnixMs, Statistics)>,
    last: EntryId,
}

impl StatisticsReader {
    /// A reader that has not read anything yet.
    pub fn new(queue: Queue, period: StatisticsPeriod) -> Self {
        Self { queue, period, published: VecDeque::new(), last: EntryId::START }
    }

    /// Reads what is new, and forgets what is too old. `now` is Redis's time.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn refresh(&mut self, now: UnixMs) -> Result<(), Error> {
        let oldest = UnixMs(now.0.saturating_sub(millis(self.period.kept_for())));
        self.last = self.last.max(EntryId::before_ms(oldest.0));
        loop {
            let page = self.queue.statistics_after(self.period, self.last).await?;
            let is_last = page.len() < PAGE_SIZE;
            for (id, statistics) in page {
                self.last = id;
                self.published.push_back((id.written_at(), statistics));
            }
            if is_last {
                break;
            }
        }
        while self.published.front().is_some_and(|(at, _)| *at < oldest) {
            self.published.pop_front();
        }
        Ok(())
    }

    /// The sum of what was published since then.
    pub fn since(&self, at: UnixMs) -> Statistics {
        let mut sum = Statistics::default();
        for (_, statistics) in self.published.iter().filter(|(published, _)| *published >= at) {
            sum.add(statistics);
        }
        sum
    }

    /// Since when there are statistics, in the time that is kept.
    pub fn first(&self) -> Option<UnixMs> {
        self.published.front().map(|(at, _)| *at)
    }

    /// The sums of each step until `now`, oldest first.
    pub fn steps(&self, now: UnixMs) -> Vec<Statistics> {
        let step = millis(self.period.step());
        let steps = usize::try_from(millis(self.period.kept_for()) / step).unwrap_or(0);
        let mut sums = vec![Statistics::default(); steps];
        for (at, statistics) in &self.published {
            let ago = usize::try_from(now.since(*at) / step).unwrap_or(usize::MAX);
            if let Some(sum) = steps.checked_sub(ago + 1).and_then(|position| sums.get_mut(position)) {
                sum.add(statistics);
            }
        }
        sums
    }
}

impl Queue {
    /// Publishes what a worker counted since it last did. `now` is about Redis's time.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn append_statistics(
        &self,
        period: StatisticsPeriod,
        statistics: &Statistics,
        now: UnixMs,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(statistics).map_err(|error| Error::Data(format!("statistics: {error}")))?;
        let (key, kept_ms) = (self.statistics_key(period), millis(period.kept_for()));
        let oldest = now.0.saturating_sub(kept_ms);
        let mut append = redis::pipe();
        append.cmd("XADD").arg(key).arg("MINID").arg("~").arg(oldest).arg("*").arg(FIELD).arg(&json).ignore();
        append.cmd("PEXPIRE").arg(key).arg(kept_ms).ignore();
        self.db.run(async |connection| append.exec_async(connection).await).await
    }

    /// What all workers of the queue counted in the last five minutes.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn statistics(&self) -> Result<Statistics, Error> {
        let mut reader = StatisticsReader::new(self.clone(), StatisticsPeriod::Minutes);
        reader.refresh(self.db.now().await?).await?;
        Ok(reader.since(UnixMs(0)))
    }

    /// What was published behind an entry, oldest first: a page of [`PAGE_SIZE`].
    async fn statistics_after(
        &self,
        period: StatisticsPeriod,
        after: EntryId,
    ) -> Result<Vec<(EntryId, Statistics)>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.statistics_key(period)).arg(format!("({after}")).arg("+").arg("COUNT").arg(PAGE_SIZE);
        let entries: Vec<(String, Vec<Value>)> =
            self.db.run(async |connection| range.query_async(connection).await).await?;
        entries.into_iter().map(|(id, fields)| Ok((EntryId::parse(&id)?, parse(&fields)))).collect()
    }

    fn statistics_key(&self, period: StatisticsPeriod) -> &str {
        match period {
            StatisticsPeriod::Minutes => &self.keys.statistics,
            StatisticsPeriod::Hour => &self.keys.hourly_statistics,
        }
    }
}

/// What an entry says. One that another version wrote says nothing.
fn parse(fields: &[Value]) -> Statistics {
    match fields {
        [Value::BulkString(field), Value::BulkString(json)] if field == FIELD.as_bytes() => {
            serde_json::from_slice(json).unwrap_or_default()
        }
        _ => Statistics::default(),
    }
}
