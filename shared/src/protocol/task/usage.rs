//! Where an answer states what its call really took of a limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a JSON answer states what its call really took of a limit. A path is member names separated by dots.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Usage {
    /// The number at this path. "" for nowhere.
    Path(String),
    /// The sum of the numbers at these paths, each times its weight: a price list, or the weights of a vendor's token limit.
    Sum(BTreeMap<String, f64>),
}

/// What is wrong with a [`Usage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsage {
    /// It adds up nothing, or too much.
    #[error("{0} paths: use 1 to {max}", max = Usage::MAX_PATHS)]
    Paths(usize),
    /// A path that is empty or too long.
    #[error("a path of {0} characters: use 1 to {max}", max = Usage::MAX_PATH_LENGTH)]
    PathLength(usize),
    /// A weight that is negative or too large.
    #[error("a weight that is negative or above {max}", max = Usage::MAX_WEIGHT)]
    Weight,
}

impl Usage {
    /// The most paths that a sum may have.
    pub const MAX_PATHS: usize = 16;
    /// The most characters that a path may have.
    pub const MAX_PATH_LENGTH: usize = 200;
    /// The largest weight.
    pub const MAX_WEIGHT: f64 = 1e6;

    /// Whether it names no place at all.
    pub fn is_nowhere(&self) -> bool {
        matches!(self, Self::Path(path) if path.is_empty())
    }

    /// What an answer states; `None` if it states nothing there. Of a sum, what is missing counts as 0. Never negative.
    pub fn read(&self, answer: &Value) -> Option<f64> {
        match self {
            Self::Path(path) => number_at(answer, path),
            Self::Sum(weights) => {
                let parts = weights.iter().map(|(path, weight)| Some(number_at(answer, path)? * weight));
                parts.flatten().reduce(|sum, part| sum + part)
            }
        }
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// A path or a weight is out of range.
    pub fn check(&self) -> Result<(), InvalidUsage> {
        let check_path = |path: &str| match path.chars().count() {
            1..=Self::MAX_PATH_LENGTH => Ok(()),
            length => Err(InvalidUsage::PathLength(length)),
        };
        match self {
            Self::Path(path) if path.is_empty() => Ok(()),
            Self::Path(path) => check_path(path),
            Self::Sum(weights) if weights.is_empty() || weights.len() > Self::MAX_PATHS => {
                Err(InvalidUsage::Paths(weights.len()))
            }
            Self::Sum(weights) => {
                weights.keys().try_for_each(|path| check_path(path))?;
                let is_valid = |weight: &f64| (0.0..=Self::MAX_WEIGHT).contains(weight);
                if weights.values().all(is_valid) { Ok(()) } else { Err(InvalidUsage::Weight) }
            }
        }
    }
}

/// The number at a path of an answer, unless it is negative.
pub fn number_at(answer: &Value, path: &str) -> Option<f64> {
    let mut at = answer;
    for name in path.split('.') {
        at = at.get(name)?;
    }
    at.as_f64().filter(|number| *number >= 0.0)
}

impl From<&str> for Usage {
    fn from(path: &str) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<String> for Usage {
    fn from(path: String) -> Self {
        Self::Path(path)
    }
}

impl<P: Into<String>, const N: usize> From<[(P, f64); N]> for Usage {
    fn from(weights: [(P, f64); N]) -> Self {
        Self::Sum(weights.map(|(path, weight)| (path.into(), weight)).into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sum_adds_up_what_the_answer_states_and_ignores_the_rest() {
        let answer = json!({"usage": {"in": 10, "out": 5, "bad": "x", "less": -1, "none": null}});
        for (usage, expected) in [
            (Usage::from("usage.in"), Some(10.0)),
            (Usage::from(""), None),
            (Usage::from("usage.bad"), None),
            (Usage::from("usage.less"), None),
            (Usage::from("other.in"), None),
            (Usage::from([("usage.in", 1.0), ("usage.out", 4.0)]), Some(30.0)),
            (Usage::from([("usage.in", 0.5), ("usage.none", 4.0), ("absent", 9.0)]), Some(5.0)),
            (Usage::from([("usage.less", 1.0), ("absent", 9.0)]), None),
        ] {
            assert_eq!(usage.read(&answer), expected, "{usage:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let many: [(String, f64); 17] = std::array::from_fn(|n| (format!("a.{n}"), 1.0));
        for (usage, expected) in [
            (Usage::from(many), InvalidUsage::Paths(17)),
            (Usage::Sum(BTreeMap::new()), InvalidUsage::Paths(0)),
            (Usage::from([("", 1.0)]), InvalidUsage::PathLength(0)),
            (Usage::from("a".repeat(201)), InvalidUsage::PathLength(201)),
            (Usage::from([("a", -1.0)]), InvalidUsage::Weight),
            (Usage::from([("a", f64::INFINITY)]), InvalidUsage::Weight),
            (Usage::from([("a", f64::NAN)]), InvalidUsage::Weight),
        ] {
            assert_eq!(usage.check(), Err(expected), "{usage:?}");
        }
        for usage in [Usage::from(""), Usage::from("a.b"), Usage::from([("a", 0.0), ("b", 1e6)])] {
            assert_eq!(usage.check(), Ok(()), "{usage:?}");
        }
    }
}
