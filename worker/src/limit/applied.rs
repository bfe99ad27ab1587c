//! A limit as it applies to one call.

use std::time::{Duration, Instant};

use redial_core::limit::{DefinedBy, SaidBy, WaitBound};
use redial_core::protocol::task::{Limit, OnEmpty};

use super::usage::UsageSource;

/// A limit that applies to a call.
#[derive(Debug, Clone)]
pub struct AppliedLimit {
    pub limit: Limit,
    pub defined_by: DefinedBy,
    /// How much the call takes from it.
    pub cost: f64,
    /// Where the response states how much it really took.
    pub usage: UsageSource,
    /// Whether it belongs to the upstream and not to the task.
    pub of_upstream: bool,
    /// On what grounds the response adjusts it.
    pub said_by: SaidBy,
    /// How long the call is willing to wait for it in all.
    pub wait_bound: WaitBound,
    /// When the call last asked it, or a little before.
    pub asked_at: Instant,
    /// How long after that it admitted the call.
    pub wait: Duration,
    /// When it admitted the call, by its own clock in us.
    pub admitted_at: f64,
}

impl AppliedLimit {
    /// A limit that has not been asked yet. What the task's `own` entry says about the call goes before what the limit says.
    pub fn new(limit: Limit, defined_by: DefinedBy, own: Option<&Limit>, of_upstream: bool, said_by: SaidBy) -> Self {
        let cost = own.and_then(|own| own.cost).or(limit.cost);
        let usage = own.and_then(|own| own.usage.clone()).or_else(|| limit.usage.clone());
        let on_empty = own.and_then(|own| own.on_empty).or(limit.on_empty);
        let max_wait_ms = own.and_then(|own| own.max_wait_ms).or(limit.max_wait_ms);
        let unit = limit.unit.as_deref().or_else(|| own?.unit.as_deref());
        Self {
            defined_by,
            cost: cost.unwrap_or(1.0),
            usage: UsageSource::new(usage, cost.is_some(), unit),
            of_upstream,
            said_by,
            wait_bound: WaitBound {
                max_wait: max_wait_ms.map(Duration::from_millis),
                dies_when_spent: on_empty == Some(OnEmpty::Dead),
            },
            limit,
            asked_at: Instant::now(),
            wait: Duration::ZERO,
            admitted_at: 0.0,
        }
    }

    /// Whether the response may adjust it, as far as is known here; the limit itself knows who defines it.
    pub fn may_be_adjusted(&self) -> bool {
        self.said_by == SaidBy::Upstream || self.defined_by != DefinedBy::Config
    }

    /// How much the call takes from it, with the unit.
    pub fn amount(&self) -> String {
        match &self.limit.unit {
            Some(unit) => format!("{} {unit}", self.cost),
            None => self.cost.to_string(),
        }
    }

    /// What remains of it according to the upstream, which states that in tokens and in requests.
    pub fn remaining(&self, tokens: Option<f64>, requests: Option<f64>) -> Option<f64> {
        match self.limit.unit.as_deref() {
            Some("tokens") => tokens,
            Some("requests") => requests,
            Some(_) => None,
            None if self.usage.is_stated() => tokens,
            None => requests,
        }
    }

    /// Which share of this call's turn a delay is, if the limit is slow: two calls a second or fewer. `None` for a faster limit, or one
    /// whose rate is not known here.
    pub fn share_of_turn(&self, delay: Duration) -> Option<f64> {
        const SLOW_TURN_MS: f64 = 500.0;
        #[expect(clippy::cast_precision_loss)] // a year in ms
        let per_ms = self.limit.per_ms.unwrap_or(1_000) as f64;
        let turn_ms = self.cost * per_ms / self.limit.rate?;
        (turn_ms >= SLOW_TURN_MS).then_some(delay.as_secs_f64() * 1e3 / turn_ms)
    }
}

/// On whose behalf a call asks a limit: the task's first other limit of its own, which usually is a tenant's; else its queue.
pub fn fairness_key<'a>(all: &'a [AppliedLimit], applied: &AppliedLimit, queue: &'a str) -> &'a str {
    let mut others = all.iter().filter(|other| !other.of_upstream && other.limit.name != applied.limit.name);
    others.next().map_or(queue, |other| &other.limit.name)
}
