//! Breakers: what the fleet knows of whether an upstream is up, and its retry budget.
//!
//! A breaker lies in a slot of its own. It opens when first calls keep failure_ratio; then one call goes at a time, the probe, and
//! the first that is answered starts a ramp, in which what goes doubles every half second. What waits does so in lines (see
//! [`crate::consumer::Line`]) and is let run from there. The decisions are all in `lua/breaker.lua`.

use std::time::Duration;

use crate::consumer::Selection;
use crate::db::Db;
use crate::{Error, UnixMs, script};

/// The breakers of a fleet.
#[derive(Debug, Clone)]
pub struct Breakers {
    db: Db,
}

/// When a breaker opens and what it lets go.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// This many first calls are enough to judge by: that many failed in a row, or so many in about 10 s of which too many
    /// failed.
    pub min_calls: u32,
    /// The share of the calls, from 0 to 1, that are too many to have failed.
    pub failure_ratio: f64,
    /// The least time from one probe to the next. It grows with the outage, up to 12 times this.
    pub probe_interval: Duration,
    /// Retries per first call that the retry budget allows.
    pub retry_ratio: f64,
    /// Retries per second that it allows besides.
    pub retries_per_second: f64,
}

/// What became of calls that were let go in one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// First calls that the upstream answered.
    pub good: u64,
    /// First calls that failed.
    pub bad: u64,
    /// Calls that failed since the last that was answered.
    pub trailing: u64,
    /// Whether any call was answered, be it a retry.
    pub any_good: bool,
}

/// What became of calls, for the breaker that admitted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// The epoch in which they were admitted: see [`BreakerStatus::epoch`].
    pub epoch: u64,
    /// What became of them.
    pub tally: Tally,
}

/// A breaker's answer to a report and some requests.
#[derive(Debug)]
pub struct BreakerReply {
    /// The state of the breaker.
    pub status: BreakerStatus,
    /// A decision for each request, in order.
    pub decisions: Vec<Decision>,
}

/// Who requests for decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerRequest {
    /// A task's first call.
    First,
    /// A further one.
    Retry,
    /// A further one, that was told before when to come back.
    ReservedRetry,
    /// The line of a queue in which so many tasks wait.
    WaitList(usize),
}

/// What a breaker says to one who requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// How many may go, and of a line which.
    pub admit: Selection,
    /// When to ask again.
    pub retry_in: Duration,
    /// Whether a failure should cost the task that goes no attempt.
    pub is_probe: bool,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStatus {
    /// How often it has opened.
    pub epoch: u64,
    /// What it does.
    pub state: BreakerState,
    /// Since when it has not been closed.
    pub since: UnixMs,
}

/// What a breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerState {
    /// All first calls go, and retries as the budget has them.
    #[default]
    Closed,
    /// One probe goes at a time.
    Open,
    /// More and more go.
    HalfOpen,
}

impl BreakerState {
    /// As it stands in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "ramp",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Closed, Self::Open, Self::HalfOpen].into_iter().find(|state| state.as_str() == text)
    }
}

impl BreakerConfig {
    /// Whether there is anything to ask for.
    pub fn is_on(&self) -> bool {
        self.min_calls > 0 || self.has_budget()
    }

    fn has_budget(&self) -> bool {
        self.retry_ratio > 0.0 || self.retries_per_second > 0.0
    }
}

impl Tally {
    /// One more call. `counts` as one of those by which the upstream is judged.
    pub fn add(&mut self, is_good: bool, counts: bool) {
        if is_good {
            self.good += u64::from(counts);
            self.trailing = 0;
            self.any_good = true;
        } else if counts {
            self.bad += 1;
            self.trailing += 1;
        }
    }
}

impl Breakers {
    /// Those of the fleet that `queue` belongs to.
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Tells the breaker of `upstream` (`host:port`) what became of calls let go in `epoch`, and requests it for decision.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to ask again: what an answer that was lost had let go is lost as well.
    pub async fn ask(
        &self,
        upstream: &str,
        config: &BreakerConfig,
        report: Report,
        requests: &[BreakerRequest],
    ) -> Result<BreakerReply, Error> {
        let mut call = script::BREAKER
            .call()
            .key(self.db.keys().breaker(upstream))
            .arg(if config.min_calls == 0 { u32::MAX } else { config.min_calls })
            .arg(config.failure_ratio)
            .arg(config.probe_interval.as_millis())
            .arg(config.retry_ratio)
            .arg(if config.has_budget() { config.retries_per_second } else { 1e9 })
            .arg(report.epoch)
            .arg(report.tally.good)
            .arg(report.tally.bad)
            .arg(report.tally.trailing)
            .arg(u8::from(report.tally.any_good));
        for ask in requests {
            call = match ask {
                BreakerRequest::First => call.arg("first"),
                BreakerRequest::Retry => call.arg("retry"),
                BreakerRequest::ReservedRetry => call.arg("again"),
                BreakerRequest::WaitList(waiting) => call.arg(format!("line {waiting}")),
            };
        }
        let mut reply = self.db.invoke::<Vec<redis::Value>>(&call).await?.into_iter();
        let mut next = || reply.next().unwrap_or(redis::Value::Nil);
        let state: (u64, String, u64) =
            (number(next())?, redis::from_redis_value(next()).map_err(|_| bad())?, number(next())?);
        let status = BreakerStatus {
            epoch: state.0,
            state: BreakerState::parse(&state.1).ok_or_else(bad)?,
            since: UnixMs(state.2),
        };
        let decision = |ask: &BreakerRequest| {
            let (go, more) = (which(next())?, number(next())?);
            let is_probe = go == Selection::Next(1) && more == 1 && !matches!(ask, BreakerRequest::WaitList(_));
            Ok(Decision { admit: go, retry_in: Duration::from_millis(more), is_probe })
        };
        Ok(BreakerReply { status, decisions: requests.iter().map(decision).collect::<Result<_, Error>>()? })
    }

    /// Notes that the breaker of an upstream is not closed, so that it can be listed.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register(&self, upstream: &str) -> Result<(), Error> {
        self.db.register_name(&self.db.keys().breakers(), upstream).await
    }

    /// The upstreams whose breaker is not closed, by name. Those that are closed again are forgotten.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn list(&self) -> Result<Vec<(String, BreakerState, UnixMs)>, Error> {
        let index = self.db.keys().breakers();
        let mut listed = Vec::new();
        for name in self.db.registered_names(&index).await? {
            let mut read = redis::cmd("HMGET");
            read.arg(self.db.keys().breaker(&name)).arg("state").arg("since");
            let (state, since): (Option<String>, Option<f64>) =
                self.db.run(async |connection| read.query_async(connection).await).await?;
            let state = state.as_deref().and_then(BreakerState::parse).unwrap_or_default();
            if state == BreakerState::Closed {
                self.db.forget_name(&index, &name).await?;
            } else {
                listed.push((name, state, UnixMs::from_double(since.unwrap_or_default())));
            }
        }
        Ok(listed)
    }
}

fn bad() -> Error {
    Error::Data("what a breaker says".into())
}

fn which(value: redis::Value) -> Result<Selection, Error> {
    let text: String = redis::from_redis_value(value).map_err(|_| bad())?;
    if text == Selection::LAST { Ok(Selection::Last) } else { text.parse().map(Selection::Next).map_err(|_| bad()) }
}

fn number<T: redis::FromRedisValue>(value: redis::Value) -> Result<T, Error> {
    redis::from_redis_value(value).map_err(|_| bad())
}
