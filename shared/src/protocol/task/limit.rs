//! A limit as a task names or defines it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::usage::{InvalidUsage, Usage};

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
    /// Where a JSON answer states what the call really took; `cost` is corrected by it: a path, or an object of paths with their
    /// weights. "" for nowhere. Default, where `cost` is set: the tokens, where well-known APIs state them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What `rate`, `burst`, `cost` and `usage` count, such as "usd": letters, digits, `_` and `-`. A limit in another unit than
    /// "tokens" takes nothing from a response unless `usage` says where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What becomes of this call if less is left than it takes. Default `wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_empty: Option<OnEmpty>,
    /// The longest time that this call waits for the limit, whatever the reason. A call that would have to wait longer is dead at once,
    /// with the reason `over_budget`. Default: as long as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait_ms: Option<u64>,
}

/// What becomes of a call if less is left of a limit than it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// It waits until enough is refilled.
    Wait,
    /// It is dead, with the reason `over_budget`.
    Dead,
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
    /// A number beyond what the arithmetic of limits is exact for.
    #[error("`limit` {name:?} has a `{field}` that is out of range: use {range}")]
    OutOfRange {
        /// The limit.
        name: String,
        /// The field.
        field: &'static str,
        /// What is allowed.
        range: &'static str,
    },
    /// A cost or a burst that takes too long to refill.
    #[error("`limit` {name:?} takes more than {years} years to refill its `{field}`", years = Limit::MAX_REFILL_YEARS)]
    NeverRefills {
        /// The limit.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// Its `unit` has too many characters, or wrong ones.
    #[error("`limit` {name:?} has the `unit` {unit:?}: use 1 to {max} letters, digits, `_` or `-`", max = Limit::MAX_UNIT_LENGTH)]
    Unit {
        /// The limit.
        name: String,
        /// The unit.
        unit: String,
    },
    /// Its `usage`.
    #[error("`limit` {name:?} has a `usage` with {error}")]
    Usage {
        /// The limit.
        name: String,
        /// What is wrong.
        error: InvalidUsage,
    },
}

impl Limit {
    /// The longest time, in years, that what a call takes, or a whole burst, may need to be refilled.
    pub const MAX_REFILL_YEARS: f64 = 2.0;
    /// The most characters that a unit may have.
    pub const MAX_UNIT_LENGTH: usize = 20;

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

    /// Where a JSON answer states what the call really took: a path such as `"usage.total_tokens"`, or paths with their weights such as
    /// `[("usage.prompt_tokens", 1.0), ("usage.completion_tokens", 4.0)]`. "" for nowhere.
    #[must_use]
    pub fn usage(self, usage: impl Into<Usage>) -> Self {
        Self { usage: Some(usage.into()), ..self }
    }

    /// What the rate and the costs count, such as `"usd"`.
    #[must_use]
    pub fn unit(self, unit: impl Into<String>) -> Self {
        Self { unit: Some(unit.into()), ..self }
    }

    /// What becomes of this call if less is left than it takes. Default: it waits.
    #[must_use]
    pub fn on_empty(self, on_empty: OnEmpty) -> Self {
        Self { on_empty: Some(on_empty), ..self }
    }

    /// The longest time that this call waits for the limit; one that would have to wait longer is dead at once.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait_ms: Some(u64::try_from(max_wait.as_millis()).unwrap_or(u64::MAX)), ..self }
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
        self.check_ranges()?;
        let is_unit = |unit: &String| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            (1..=Self::MAX_UNIT_LENGTH).contains(&unit.len()) && unit != "-" && unit.chars().all(allowed)
        };
        if let Some(unit) = self.unit.as_ref().filter(|unit| !is_unit(unit)) {
            return Err(InvalidLimit::Unit { name: name.clone(), unit: unit.clone() });
        }
        match self.usage.as_ref().map(Usage::check) {
            Some(Err(error)) => Err(InvalidLimit::Usage { name: name.clone(), error }),
            _ => Ok(()),
        }
    }

    /// Times are kept in microseconds as doubles, exact to 2^53: whatever is taken must be refilled long before.
    fn check_ranges(&self) -> Result<(), InvalidLimit> {
        const AMOUNTS: std::ops::RangeInclusive<f64> = 1e-9..=1e12;
        const YEAR_MS: u64 = 366 * 86_400_000;
        const MAX_SLOTS: u32 = 1_000_000;
        let name = || self.name.clone();
        for (field, value) in [("cost", self.cost), ("rate", self.rate), ("burst", self.burst)] {
            if value.is_some_and(|value| !AMOUNTS.contains(&value)) {
                return Err(InvalidLimit::OutOfRange { name: name(), field, range: "1e-9 to 1e12" });
            }
        }
        if self.per_ms.is_some_and(|per_ms| per_ms > YEAR_MS) {
            return Err(InvalidLimit::OutOfRange { name: name(), field: "per_ms", range: "1 to 31622400000, a year" });
        }
        if self.max_wait_ms.is_some_and(|max_wait_ms| max_wait_ms > YEAR_MS) {
            let range = "0 to 31622400000, a year";
            return Err(InvalidLimit::OutOfRange { name: name(), field: "max_wait_ms", range });
        }
        if self.concurrency.is_some_and(|slots| slots > MAX_SLOTS) {
            return Err(InvalidLimit::OutOfRange { name: name(), field: "concurrency", range: "1 to 1000000" });
        }
        let Some(rate) = self.rate else { return Ok(()) };
        #[expect(clippy::cast_precision_loss)] // at most a year in ms
        let years_per_unit = self.per_ms.unwrap_or(1_000) as f64 / rate / 1e3 / 86_400.0 / 365.25;
        let one_call = self.cost.is_none().then_some(1.0);
        for (field, amount) in [("rate", one_call), ("cost", self.cost), ("burst", self.burst)] {
            if amount.is_some_and(|amount| amount * years_per_unit > Self::MAX_REFILL_YEARS) {
                return Err(InvalidLimit::NeverRefills { name: name(), field });
            }
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
