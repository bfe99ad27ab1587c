//! Which limits apply to a call.

use std::time::{Duration, Instant};

use redial_core::Task;
use redial_core::limit::DefinedBy;
use redial_core::protocol::task::Limit;

use crate::config::Config;

/// Where a response states what the call cost, unless the limit says otherwise: OpenAI's place, and that of all who follow it.
const DEFAULT_USAGE_PATH: &str = "usage.total_tokens";

/// A limit that applies to a call.
#[derive(Debug, Clone)]
pub struct AppliedLimit {
    pub limit: Limit,
    pub defined_by: DefinedBy,
    /// How much the call takes from it.
    pub cost: f64,
    /// Where the response states how much it really took.
    pub usage: Option<String>,
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

/// The limits that apply to a task: its own, in its order, then those of its upstream.
pub fn limits_for(task: &Task, config: &Config) -> Vec<AppliedLimit> {
    let of_upstream = config.upstreams.limits_for(task);
    let mut all: Vec<AppliedLimit> = Vec::new();
    for own in &task.limits {
        if all.iter().all(|other| other.limit.name != own.name) {
            let configured = config.limits.get(&own.name);
            let limit = configured.unwrap_or(own).clone();
            let defined_by = match configured {
                Some(_) => DefinedBy::Config,
                None if own.rate.is_some() || own.concurrency.is_some() => DefinedBy::Inline,
                None => DefinedBy::Name,
            };
            all.push(apply(limit, defined_by, own.cost, own.usage.clone(), of_upstream.contains(&own.name)));
        }
    }
    for name in of_upstream {
        if let Some(limit) = config.limits.get(name)
            && all.iter().all(|other| other.limit.name != *name)
        {
            all.push(apply(limit.clone(), DefinedBy::Config, None, None, true));
        }
    }
    all
}

fn apply(
    limit: Limit,
    defined_by: DefinedBy,
    cost: Option<f64>,
    usage: Option<String>,
    of_upstream: bool,
) -> AppliedLimit {
    let cost = cost.or(limit.cost);
    let usage = usage.or_else(|| limit.usage.clone()).or_else(|| cost.map(|_| DEFAULT_USAGE_PATH.to_owned()));
    AppliedLimit {
        defined_by,
        cost: cost.unwrap_or(1.0),
        usage: usage.filter(|path| !path.is_empty()),
        of_upstream,
        limit,
        asked_at: Instant::now(),
        wait: Duration::ZERO,
        admitted_at: 0.0,
    }
}

/// On whose behalf a call asks a limit: the task's first other limit of its own, which usually is a tenant's; else its queue.
pub fn fairness_key<'a>(all: &'a [AppliedLimit], applied: &AppliedLimit, queue: &'a str) -> &'a str {
    let mut others = all.iter().filter(|other| !other.of_upstream && other.limit.name != applied.limit.name);
    others.next().map_or(queue, |other| &other.limit.name)
}
