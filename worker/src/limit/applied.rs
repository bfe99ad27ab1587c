//! A limit as it applies to one call.

use redial_core::limit::DefinedBy;
use redial_core::protocol::task::{Limit, Usage};

use super::grant::HeldGrant;
use super::usage::UsageSource;

/// A limit that applies to a call.
#[derive(Debug)]
pub struct AppliedLimit {
    pub limit: Limit,
    pub defined_by: DefinedBy,
    /// How much the call takes from it.
    pub cost: f64,
    /// Where the response states how much it really took.
    pub usage: UsageSource,
    /// Whether it belongs to the upstream and not to the task.
    pub of_upstream: bool,
    /// What it has granted.
    pub grant: Option<HeldGrant>,
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
        Self { defined_by, cost: cost.unwrap_or(1.0), usage, of_upstream, limit, grant: None }
    }

    /// The moment for which it granted the call, by its own clock in us.
    pub fn granted_at(&self) -> f64 {
        self.grant.as_ref().map_or(0.0, |grant| grant.at)
    }

    /// Releases the concurrency slot that the call holds.
    pub fn release_slot(&mut self) {
        if let Some(grant) = &mut self.grant {
            grant.slot = None;
        }
    }
}

/// On whose behalf a call asks a limit: the task's first other limit of its own, which usually is a tenant's; else its queue.
pub fn fairness_key<'a>(all: &'a [AppliedLimit], applied: &AppliedLimit, queue: &'a str) -> &'a str {
    let mut others = all.iter().filter(|other| !other.of_upstream && other.limit.name != applied.limit.name);
    others.next().map_or(queue, |other| &other.limit.name)
}
