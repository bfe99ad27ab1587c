//! Names that others choose, as values of labels: the first ones have a series each, and all further ones share one.

use std::collections::HashSet;

use parking_lot::Mutex;

/// What the names beyond the bound share.
pub const OTHERS: &str = "(others)";
/// The longest name that has a series of its own, in bytes.
const MAX_NAME: usize = 260;

/// Whether a name was met for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    First,
    Repeated,
}

/// The names that have a series of their own, up to a bound.
#[derive(Debug)]
pub struct KnownNames {
    most: usize,
    names: Mutex<HashSet<String>>,
}

impl KnownNames {
    /// None so far, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self { most, names: Mutex::default() }
    }

    /// The name, or what it shares with others.
    pub fn name<'a>(&self, name: &'a str) -> &'a str {
        self.name_and_occurrence(name).1
    }

    /// The same, and whether the name is there for the first time. Those that share one count as repeated.
    pub fn name_and_occurrence<'a>(&self, name: &'a str) -> (Occurrence, &'a str) {
        let mut names = self.names.lock();
        if names.contains(name) {
            return (Occurrence::Repeated, name);
        }
        if names.len() >= self.most || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return (Occurrence::Repeated, OTHERS);
        }
        names.insert(name.to_owned());
        (Occurrence::First, name)
    }
}
