//! Ids, names and times.

use std::fmt;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A time in whole milliseconds since the Unix epoch, by the clock of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The time `ms` milliseconds later.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; 0 if `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The score of a sorted set: whole milliseconds, far below 2^53, which a double represents exactly.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn from_double(ms: f64) -> Self {
        Self(ms as u64)
    }

    /// The time by this machine's clock, for a producer to put on a task. Workers use the clock of Redis.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskId(String);

impl TaskId {
    /// The maximum length of an id, in characters.
    pub const MAX: usize = 200;

    /// Checks a producer's id.
    ///
    /// # Errors
    /// The id is empty, too long, or contains other characters than printable ASCII.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        if id.is_empty() {
            return Err(InvalidId::Empty);
        }
        if id.len() > Self::MAX {
            return Err(InvalidId::TooLong { bytes: id.len() });
        }
        if let Some(character) = id.chars().find(|c| !matches!(c, ' '..='~')) {
            return Err(InvalidId::Character(character));
        }
        Ok(Self(id.to_owned()))
    }

    /// The id of a task that was pushed without one: a UUIDv7 (RFC 9562) derived from its first claim, so that every worker that
    /// ever holds the task gives it the same id.
    pub fn derive(serial: &str, first_seen: UnixMs) -> Self {
        let digest = sha2::Sha256::digest(serial);
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        Self(uuid_v7(first_seen, &random))
    }

    /// When a task was first claimed whose id is derived from that; `None` if the id is no UUIDv7.
    pub(crate) fn first_seen(&self) -> Option<UnixMs> {
        let id = uuid::Uuid::try_parse(&self.0).ok().filter(|id| id.get_version_num() == 7)?;
        let (seconds, nanos) = id.get_timestamp()?.to_unix();
        Some(UnixMs(seconds * 1000 + u64::from(nanos) / 1_000_000))
    }

    /// A new UUIDv7 by this machine's clock, for a producer that needs an id before it pushes.
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

/// Whether this can be the name of an `[[upstream]]` block: 1 to 64 characters that a path has as they are.
pub fn is_upstream_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(is_plain) && !matches!(name, "." | "..")
}

/// What is wrong with a task's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It has no characters.
    #[error("`id` is empty: omit it to have one assigned")]
    Empty,
    /// It is too long.
    #[error("`id` has {bytes} bytes; the limit is {}", TaskId::MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It contains a character that is not printable ASCII.
    #[error("`id` contains {0:?}; only printable ASCII is allowed")]
    Character(char),
}

/// A queue name that does not conform to the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid queue name: use 1 to 100 letters, digits, `.`, `_`, `-` or `/`")]
pub struct InvalidQueueName {
    /// The name.
    pub name: String,
}

/// A queue's name: 1 to 100 letters, digits, `.`, `_`, `-` or `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(String);

impl QueueName {
    /// Checks a queue's name. Braces are not allowed because they delimit the hash tag of the queue's keys.
    ///
    /// # Errors
    /// The name is empty, too long, or contains other characters.
    pub fn new(name: &str) -> Result<Self, InvalidQueueName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
            return Err(InvalidQueueName { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// The maximum number of partitions of a queue.
    pub const MAX_PARTITIONS: usize = 256;

    /// The name of this queue's partition with this number: `q/0` is the first one of `q`.
    ///
    /// # Errors
    /// The name would be too long.
    pub fn partition(&self, number: usize) -> Result<Self, InvalidQueueName> {
        Self::new(&format!("{self}/{number}"))
    }

    /// The queue of which this would be a partition, by its name, and the number that it would have.
    pub fn as_partition(&self) -> Option<(Self, usize)> {
        let (whole, digits) = self.0.rsplit_once('/')?;
        let number: usize = digits.parse().ok()?;
        // One name for each number: no sign and no leading zero.
        let is_plain = !whole.is_empty() && number < Self::MAX_PARTITIONS && number.to_string() == digits;
        is_plain.then(|| (Self(whole.to_owned()), number))
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

/// One run of one worker. Random at every start: a name reused after a restart would hide the tasks of the previous run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new id, never used before.
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::rng().random::<u64>()))
    }

    /// This worker's id at its `n`th queue, so that tokens, which begin with it, are unique across queues.
    #[must_use]
    pub fn for_queue(&self, n: usize) -> Self {
        Self(format!("{self}-{n}"))
    }

    /// The worker's id without its queue: see [`for_queue`](Self::for_queue).
    #[must_use]
    pub fn without_queue(&self) -> Self {
        Self(self.0.rsplit_once('-').map_or(&*self.0, |(worker, _)| worker).to_owned())
    }

    /// An id read from Redis.
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

/// The fencing token of one delivery of a task: only its holder may complete, reschedule or bury the task. Never used twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) String);

impl Token {
    /// The number of the claim that delivered the task to its worker.
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
    fn every_worker_derives_the_same_id_for_a_task_without_one() {
        let at = UnixMs(1_763_900_000_000);
        let id = TaskId::derive("w-1:1", at);
        assert_eq!(id, TaskId::derive("w-1:1", at));
        assert_ne!(id, TaskId::derive("w-1:2", at));
        let uuid = uuid::Uuid::parse_str(id.as_str());
        assert_eq!(uuid.map(|u| u.get_version_num()), Ok(7));
    }

    #[test]
    fn a_queue_name_cannot_break_its_hash_tag() {
        assert!(QueueName::new("q/0").is_ok());
        for bad in ["", "a}b", "{a", "a b", "a:b"] {
            assert!(QueueName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_name_of_a_partition_is_that_of_its_queue_and_its_number() -> Result<(), InvalidQueueName> {
        let whole = QueueName::new("a/b")?;
        for number in [0, 9, 255] {
            assert_eq!(whole.partition(number)?.as_partition(), Some((whole.clone(), number)));
        }
        for other in ["a", "a/", "/1", "a/b", "a/01", "a/256", "a/1b"] {
            assert_eq!(QueueName::new(other)?.as_partition(), None, "{other}");
        }
        assert!(QueueName::new(&"q".repeat(99))?.partition(0).is_err());
        Ok(())
    }
}
