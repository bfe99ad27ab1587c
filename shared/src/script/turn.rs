//! Wait lists in turn: what their scripts take and return.

use redis::{FromRedisValue, ParsingError, Value};

use super::{Invocation, Rest, Values};
use crate::UnixMs;
use crate::protocol::id::Token;

/// A task that is parked in a wait list whose order is fair.
#[derive(Debug, Clone)]
pub struct TurnTask<'a> {
    /// The fence.
    pub token: &'a str,
    /// Its name inside Redial.
    pub serial: &'a str,
    /// The entry's new header.
    pub header: &'a str,
    /// Its deadline.
    pub deadline: Option<UnixMs>,
    /// How much of its key's share it takes.
    pub cost: f64,
    /// Whose turn it is.
    pub fairness_key: &'a str,
    /// The place that it had before, and has again.
    pub position: Option<&'a str>,
    /// Whether it does not wait for a bucket that does not have enough.
    pub dies_when_spent: bool,
}

impl Rest for TurnTask<'_> {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.token);
        call.arg(&self.serial);
        call.arg(&self.header);
        call.arg(&self.deadline);
        call.arg(&self.cost);
        call.arg(&self.fairness_key);
        call.arg(&self.position);
        call.arg(&self.dies_when_spent);
    }
}

/// A task to take from a wait list.
#[derive(Debug, Clone)]
pub struct TakenInTurn {
    /// Its name inside Redial.
    pub serial: String,
    /// The fence of its next delivery.
    pub token: Token,
}

impl Rest for TakenInTurn {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.serial);
        call.arg(&self.token.as_str());
    }
}

/// A task that waits in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct NextInTurn {
    /// Its name inside Redial.
    pub serial: String,
    /// Its place in the list, as Redis has it.
    pub position: String,
    /// How much it takes of what it waits for.
    pub cost: f64,
    /// Whether it does not wait for a bucket that does not have enough.
    pub dies_when_spent: bool,
}

/// What was taken from a wait list, and what is next.
#[derive(Debug, PartialEq)]
pub struct ReleasedInTurn {
    /// How many tasks are left; `None` if the queue is paused.
    pub left: Option<usize>,
    /// The tasks that were taken: token and entry.
    pub taken: Vec<(Token, Vec<u8>)>,
    /// The first ones that are left.
    pub next: Vec<NextInTurn>,
}

impl FromRedisValue for ReleasedInTurn {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let left = usize::try_from(values.next::<i64>()?).ok();
        let count: usize = values.next()?;
        let (mut taken, mut next) = (Vec::new(), Vec::new());
        for _ in 0..count {
            taken.push((Token(values.next()?), values.next()?));
        }
        while !values.is_empty() {
            let (serial, position, terms) = (values.next()?, values.next()?, values.next::<String>()?);
            let dies_when_spent = terms.ends_with(" spent");
            let cost = terms.trim_end_matches(" spent").parse().map_err(|_| ParsingError::from("not a cost"))?;
            next.push(NextInTurn { serial, position, cost, dies_when_spent });
        }
        Ok(Self { left, taken, next })
    }
}
