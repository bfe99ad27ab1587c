//! A limit as a task names or defines it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A limit that a call is under.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limit {
    /// Its name. What is not set here comes from the configuration under this name.
    pub name: String,
    /// How much of it this call takes. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// How much is refilled every `per_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The period of `rate`. Default 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_ms: Option<u64>,
    /// How much may be taken at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<f64>,
    /// The maximum number of calls in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Where a JSON answer states what the call really took; `cost` is corrected by it. "" for nowhere. Default
    /// `usage.total_tokens` where `cost` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
}

/// What is wrong with a limit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidLimit {
    /// Its name is empty, too long, or would break the key's hash tag.
    #[error("`limit` has the name {0:?}: use 1 to 200 characters without braces")]
    Name(String),
    /// A number that has to be positive.
    #[error("`limit` {name:?} has a `{field}` that is not above 0")]
    NotPositive {
        /// The limit.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// A limit under which no call could ever be made.
    #[error("`limit` {0:?} has a `per_ms` or `concurrency` of 0: no call could ever be made")]
    NeverAdmits(String),
}

impl Limit {
    /// The limit that the configuration, an operator or other tasks define under this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Defines the rate: `amount` calls, or units of their cost, every `period`.
    #[must_use]
    pub fn rate(self, amount: f64, period: Duration) -> Self {
        let per_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        Self { rate: Some(amount), per_ms: Some(per_ms), ..self }
    }

    /// Defines how much may be taken at once. Default: one second's worth of the rate, at least 1.
    #[must_use]
    pub fn burst(self, amount: f64) -> Self {
        Self { burst: Some(amount), ..self }
    }

    /// Defines the maximum number of calls in flight.
    #[must_use]
    pub fn concurrency(self, max_calls: u32) -> Self {
        Self { concurrency: Some(max_calls), ..self }
    }

    /// How much of the limit this call takes. Default 1.
    #[must_use]
    pub fn cost(self, amount: f64) -> Self {
        Self { cost: Some(amount), ..self }
    }

    /// Where a JSON answer states what the call really took, such as `usage.total_tokens`. "" for nowhere.
    #[must_use]
    pub fn usage(self, path: impl Into<String>) -> Self {
        Self { usage: Some(path.into()), ..self }
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The name or a number is out of range.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let name = &self.name;
        if name.is_empty() || name.len() > 200 || name.contains(['{', '}']) {
            return Err(InvalidLimit::Name(name.clone()));
        }
        for (field, value) in [("cost", self.cost), ("rate", self.rate), ("burst", self.burst)] {
            if value.is_some_and(|value| !value.is_finite() || value <= 0.0) {
                return Err(InvalidLimit::NotPositive { name: name.clone(), field });
            }
        }
        if self.per_ms == Some(0) || self.concurrency == Some(0) {
            return Err(InvalidLimit::NeverAdmits(name.clone()));
        }
        Ok(())
    }
}

impl From<&str> for Limit {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl From<String> for Limit {
    fn from(name: String) -> Self {
        Self::named(name)
    }
}
