//! The names of things, and the one way to write down a time.

use std::fmt;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::Error;

/// A moment in whole milliseconds since the Unix epoch, by the clock of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[derive(schemars::JsonSchema)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// This moment and `ms` milliseconds more.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As Redis has it, in a score: whole milliseconds, far below 2^53, which a double holds exactly.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn from_double(ms: f64) -> Self {
        Self(ms as u64)
    }

    /// This machine's clock: for what a producer stamps on a task. Workers go by Redis.
    pub fn local_now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The producer's name for a task: 1 to 200 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[derive(schemars::JsonSchema)]
pub struct TaskId(String);

impl TaskId {
    /// The longest id, in characters.
    pub const MAX: usize = 200;

    /// Checks a producer's id.
    ///
    /// # Errors
    /// What is wrong with it, in words for its producer.
    pub fn new(id: &str) -> Result<Self, String> {
        if id.is_empty() {
            return Err("`id` is empty: leave it out to be given one".into());
        }
        if id.len() > Self::MAX {
            let max = Self::MAX;
            return Err(format!("`id` has {} bytes; at most {max} are allowed", id.len()));
        }
        if let Some(bad) = id.chars().find(|c| !matches!(c, ' '..='~')) {
            return Err(format!("`id` holds {bad:?}; only printable ASCII is allowed"));
        }
        Ok(Self(id.to_owned()))
    }

    /// The id of a task that came without one: a UUIDv7 (RFC 9562) made of its first claim, so that every worker that
    /// ever holds the task names it alike.
    pub fn derive(serial: &str, first_seen: UnixMs) -> Self {
        let digest = sha2::Sha256::digest(serial);
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        Self(uuid_v7(first_seen, &random))
    }

    /// A new UUIDv7 by this machine's clock, for a producer that wants a name before it pushes.
    pub fn random() -> Self {
        Self(uuid_v7(UnixMs::local_now(), &rand::rng().random()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn uuid_v7(at: UnixMs, random: &[u8; 10]) -> String {
    uuid::Builder::from_unix_timestamp_millis(at.0, random).into_uuid().to_string()
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A queue's name: 1 to 100 of letters, digits, `.`, `_`, `-`, `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(String);

impl QueueName {
    /// Checks a queue's name. Braces are what a key's hash tag is made of, so they can't be part of it.
    ///
    /// # Errors
    /// [`Error::Name`] says what is allowed.
    pub fn new(name: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
            return Err(Error::Name(format!(
                "{name:?} is no name for a queue: use 1 to 100 letters, digits, `.`, `_`, `-` or `/`"
            )));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text, without braces.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of one worker. Random at every start: a name that came back after a restart would hide what its forerunner held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new id, never used before.
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::rng().random::<u64>()))
    }

    /// This worker's name at its `n`th queue: what it names there, after itself and a number, is unique in all of them.
    #[must_use]
    pub fn for_queue(&self, n: usize) -> Self {
        Self(format!("{self}-{n}"))
    }

    /// An id as Redis holds it.
    pub fn from_redis(id: String) -> Self {
        Self(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fence of one delivery of one task: only who holds it may finish, give back or bury the task. Never used twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) String);

impl Token {
    /// Which of its worker's claims brought the task.
    pub fn claim_number(&self) -> Option<u64> {
        self.0.split(':').nth(1)?.parse().ok()
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printable_ascii_of_bounded_length() {
        for good in ["a", "A b~", &"x".repeat(200)] {
            assert!(TaskId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "tab\t", "ü", "line\n", &"x".repeat(201)] {
            assert!(TaskId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_task_without_an_id_is_named_alike_by_every_worker() {
        let at = UnixMs(1_763_900_000_000);
        let id = TaskId::derive("w-1:1", at);
        assert_eq!(id, TaskId::derive("w-1:1", at));
        assert_ne!(id, TaskId::derive("w-1:2", at));
        let uuid = uuid::Uuid::parse_str(id.as_str());
        assert_eq!(uuid.map(|u| u.get_version_num()), Ok(7));
    }

    #[test]
    fn a_queue_name_can_not_break_its_hash_tag() {
        assert!(QueueName::new("q/0").is_ok());
        for bad in ["", "a}b", "{a", "a b", "a:b"] {
            assert!(QueueName::new(bad).is_err(), "{bad:?}");
        }
    }
}
