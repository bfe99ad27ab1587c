//! The `[[limit]]` blocks.

use anyhow::{Context as _, ensure};
use redial_core::protocol::task::{Limit, OnEmpty, Usage};
use serde::Deserialize;

/// All `[[limit]]` blocks.
#[derive(Debug, Clone, Default)]
pub struct LimitConfig {
    limits: Vec<Limit>,
    /// Those that tasks may not name.
    for_operators: Vec<String>,
}

/// A block as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimit {
    name: String,
    cost: Option<f64>,
    rate: Option<f64>,
    per_ms: Option<u64>,
    burst: Option<f64>,
    concurrency: Option<u32>,
    usage: Option<Usage>,
    unit: Option<String>,
    on_empty: Option<OnEmpty>,
    max_wait_ms: Option<u64>,
    #[serde(default = "yes")]
    tasks: bool,
}

fn yes() -> bool {
    true
}

impl LimitConfig {
    /// Checks the blocks.
    ///
    /// # Errors
    /// A block has an invalid value, limits nothing, or has the name of another one.
    pub fn new(blocks: Vec<RawLimit>) -> anyhow::Result<Self> {
        let (mut limits, mut for_operators): (Vec<Limit>, Vec<String>) = (Vec::new(), Vec::new());
        for RawLimit { name, cost, rate, per_ms, burst, concurrency, usage, unit, on_empty, max_wait_ms, tasks } in
            blocks
        {
            let limit = Limit { name, cost, rate, per_ms, burst, concurrency, usage, unit, on_empty, max_wait_ms };
            limit.check().map_err(anyhow::Error::msg).context("[[limit]]")?;
            let name = &limit.name;
            ensure!(
                limit.rate.is_some() || limit.concurrency.is_some(),
                "[[limit]] {name:?} limits nothing: give it a rate or a concurrency"
            );
            ensure!(limits.iter().all(|other| other.name != *name), "[[limit]] {name:?} is defined twice");
            if !tasks {
                for_operators.push(name.clone());
            }
            limits.push(limit);
        }
        Ok(Self { limits, for_operators })
    }

    /// Checks that a limit that an upstream names is defined.
    ///
    /// # Errors
    /// It is not.
    pub fn require(&self, name: &str) -> anyhow::Result<()> {
        self.get(name)
            .map(|_| ())
            .with_context(|| format!("an [[upstream]] names the limit {name:?}, but no [[limit]] has that name"))
    }

    /// All limits.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter()
    }

    /// The limit of this name.
    pub fn get(&self, name: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.name == name)
    }

    /// Whether only an `[[upstream]]` block may apply it, and no task.
    pub fn is_for_operators(&self, name: &str) -> bool {
        self.for_operators.iter().any(|other| other == name)
    }
}
