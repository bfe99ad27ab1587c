//! What Redis says of tasks that are pushed once.

use std::fmt;

use redis::{FromRedisValue, ParsingError, Value};

/// Up to where tasks were pushed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushCheckpoint {
    /// The last line of a batch, or the fingerprint of the only task.
    At(u64),
    /// The task belongs to the partition of this number, where its checkpoint is.
    InPartition(usize),
}

impl PushCheckpoint {
    /// What begins the number of a partition.
    const PARTITION: char = '@';
}

impl fmt::Display for PushCheckpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(number) => number.fmt(formatter),
            Self::InPartition(number) => write!(formatter, "{}{number}", Self::PARTITION),
        }
    }
}

impl FromRedisValue for PushCheckpoint {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text = String::from_redis_value(value)?;
        let parsed = match text.strip_prefix(Self::PARTITION) {
            Some(number) => number.parse().ok().map(Self::InPartition),
            None => text.parse().ok().map(Self::At),
        };
        parsed.ok_or_else(|| ParsingError::from("neither a checkpoint nor a partition"))
    }
}
