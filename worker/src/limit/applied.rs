//! A limit as it applies to one call.

use std::time::{Duration, Instant};

use redial_core::limit::DefinedBy;
use redial_core::protocol::task::{Limit, Usage};

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
    /// When the call last asked it, or a little before.
    pub asked_at: Instant,
    /// How long after that it admitted the call.
    pub wait: Duration,
    /// When it admitted the call, by its own clock in us.
    pub admitted_at: f64,
}

impl AppliedLimit {
    /// A limit that has not been asked yet. The task's `cost` and `usage` override the limit's own.
    pub fn new(
        limit: Limit,
        defined_by: DefinedBy,
        cost: Option<f64>,
        usage: Option<Usage>,
        of_upstream: bool,
    ) -> Self {
        let cost = cost.or(limit.cost);
        let usage = UsageSource::new(usage.or_else(|| limit.usage.clone()), cost.is_some());
        Self {
            defined_by,
            cost: cost.unwrap_or(1.0),
            usage,
            of_upstream,
            limit,
            asked_at: Instant::now(),
            wait: Duration::ZERO,
            admitted_at: 0.0,
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
