//! A limit as it applies to one call.

use std::time::Duration;

use redial_core::limit::{DefinedBy, SaidBy, WaitBound};
use redial_core::protocol::task::{Limit, OnEmpty};

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
    /// On what grounds the response adjusts it.
    pub said_by: SaidBy,
    /// How long the call is willing to wait for it in all.
    pub wait_bound: WaitBound,
    /// What it has granted.
    pub grant: Option<HeldGrant>,
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
            grant: None,
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

/// On whose behalf a call asks a limit: its tenant; else the task's first other limit of its own, which usually is a tenant's; else its
/// queue.
pub fn fairness_key<'a>(
    all: &'a [AppliedLimit],
    applied: &AppliedLimit,
    tenant: Option<&'a str>,
    queue: &'a str,
) -> &'a str {
    if let Some(tenant) = tenant {
        return tenant;
    }
    let mut others = all.iter().filter(|other| !other.of_upstream && other.limit.name != applied.limit.name);
    others.next().map_or(queue, |other| &other.limit.name)
}
