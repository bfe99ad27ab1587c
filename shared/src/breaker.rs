//! Circuit breakers: whether an upstream is up, as far as the fleet knows, and the upstream's retry budget.
//!
//! A breaker is in a Cluster slot of its own. It opens when too many first calls fail. Then one call at a time is admitted, the probe.
//! The first probe that succeeds makes it half open, and it admits up to twice as many calls every half second until it is closed.
//! Tasks wait in wait lists meanwhile (see [`crate::consumer::WaitList`]). The decisions are in `lua/lib/breaker.lua`.

use std::time::Duration;

use crate::db::Db;
use crate::script::breaker::Consult;
use crate::script::millis;
use crate::{Error, UnixMs};

pub use crate::script::breaker::{BreakerReply, BreakerRequest, BreakerState, BreakerStatus, Decision};

/// Retries per second where there is no budget.
const UNLIMITED_RETRIES: f64 = 1e9;

/// The breakers of a fleet.
#[derive(Debug, Clone)]
pub struct Breakers {
    db: Db,
}

/// When a breaker opens, and what it admits.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// This many first calls are enough to judge by: it opens when this many failed in a row, or when there were this many in
    /// about 10 s and too many of them failed. 0 turns the breaker off.
    pub min_calls: u32,
    /// The share of failed calls, from 0 to 1, at which it opens.
    pub failure_ratio: f64,
    /// The least time between two probes. It grows with the outage, up to 12 times this.
    pub probe_interval: Duration,
    /// Retries per first call that the retry budget allows.
    pub retry_ratio: f64,
    /// Retries per second that it allows in addition.
    pub retries_per_second: f64,
}

/// What became of calls that were admitted in one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// First calls that succeeded.
    pub good: u64,
    /// First calls that failed.
    pub bad: u64,
    /// Calls that failed since the last success.
    pub trailing: u64,
    /// Whether any call succeeded, retries included.
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

impl BreakerConfig {
    /// Whether the breaker or the retry budget is on.
    pub fn is_on(&self) -> bool {
        self.min_calls > 0 || self.has_budget()
    }

    fn has_budget(&self) -> bool {
        self.retry_ratio > 0.0 || self.retries_per_second > 0.0
    }
}

impl Tally {
    /// Adds a call. `counts`: the upstream is judged by it.
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

impl Db {
    /// The circuit breakers that the fleet shares.
    pub fn breakers(&self) -> Breakers {
        Breakers::new(self.clone())
    }
}

impl Breakers {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Whether a breaker is on a node of a Cluster that does not answer, as far as it is known.
    pub fn is_away(&self, upstream: &str) -> bool {
        self.db.is_away(|| self.db.keys().breaker(upstream))
    }

    /// Reports to the breaker of `upstream` (`host:port`) what became of calls, and asks it whether to make more.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: what a lost reply had admitted is lost as well.
    pub async fn ask(
        &self,
        upstream: &str,
        config: &BreakerConfig,
        report: Report,
        requests: &[BreakerRequest],
    ) -> Result<BreakerReply, Error> {
        let call = Consult {
            breaker_key: &self.db.keys().breaker(upstream),
            min_calls: if config.min_calls == 0 { u32::MAX } else { config.min_calls },
            failure_ratio: config.failure_ratio,
            probe_interval_ms: millis(config.probe_interval),
            retry_ratio: config.retry_ratio,
            retries_per_s: if config.has_budget() { config.retries_per_second } else { UNLIMITED_RETRIES },
            epoch: report.epoch,
            good: report.tally.good,
            bad: report.tally.bad,
            trailing: report.tally.trailing,
            any_good: report.tally.any_good,
            requests,
        };
        self.db.call(&call).await
    }

    /// Records that the breaker of an upstream is not closed, so that it is listed.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register(&self, upstream: &str) -> Result<(), Error> {
        let keys = self.db.keys();
        self.db.register_name(&keys.breakers(), upstream, |upstream| keys.breaker(upstream)).await
    }

    /// The upstreams whose breaker is not closed, by name. Breakers that are closed again are no longer listed afterwards.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn list(&self) -> Result<Vec<(String, BreakerState, UnixMs)>, Error> {
        let index = self.db.keys().breakers();
        let mut listed = Vec::new();
        for name in self.db.registered_names(&index).await? {
            let mut read = redis::cmd("HMGET");
            read.arg(self.db.keys().breaker(&name)).arg("state").arg("open_since");
            let (state, open_since): (Option<String>, Option<f64>) =
                self.db.run(async |connection| read.query_async(connection).await).await?;
            let state = state.as_deref().and_then(BreakerState::parse).unwrap_or_default();
            if state == BreakerState::Closed {
                self.db.forget_name(&index, &name).await?;
            } else {
                listed.push((name, state, UnixMs::from_double(open_since.unwrap_or_default())));
            }
        }
        Ok(listed)
    }
}
