//! A pattern of names, in which `*` stands for any characters.

use std::fmt;

use serde::Deserialize;

/// A pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern as it is written.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether a name matches it.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        // There is always a first part.
        let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, matching, others) in [
            ("answers:*", vec!["answers:", "answers:{q}:1"], vec!["answers", "my:answers:1", ""]),
            ("one", vec!["one"], vec!["on", "ones", ""]),
            ("*", vec!["", "x"], vec![]),
            ("a*b*c", vec!["abc", "axbxc", "abbc"], vec!["ab", "acb", "bac"]),
            ("ab*b", vec!["abb", "abxb"], vec!["ab"]),
            ("", vec![""], vec!["x"]),
        ] {
            let of = NamePattern::new(pattern);
            assert!(matching.iter().all(|name| of.matches(name)), "{pattern}");
            assert!(!others.iter().any(|name| of.matches(name)), "{pattern}");
        }
    }
}
