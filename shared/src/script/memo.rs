//! Memos. Each is one key, in a Cluster slot of its own.

use redis::{FromRedisValue, ParsingError, Value};

use super::{Values, typed_calls};
use crate::{QueueName, TaskResult};

typed_calls! {
    /// Asks a memo what a task should do.
    Lead = "memo/lead" + ["clock", "out_of_memory"] -> LeadDecision {
        keys: memo;
        args: mode: &'a str, serial: &'a str, token: &'a str, queue: &'a str, fingerprint: &'a str, max_age_ms: u64,
            lease_ms: u64, once: bool;
    }

    /// Ends the lead of a memo.
    Settle = "memo/settle" + ["clock"] -> LeadOutcome {
        keys: memo;
        args: serial: &'a str, token: &'a str, answer: &'a str, ttl_ms: u64, is_good: bool;
    }

    /// Drops the answer that a memo stores. `false`: there was no such answer.
    Forget = "memo/forget" + [] -> bool {
        keys: memo;
        args: what: &'a str;
    }
}

/// What a memo tells a task to do.
#[derive(Debug)]
pub enum LeadDecision {
    /// Make the call, and settle.
    Lead,
    /// Take this answer.
    Answer(Box<KeptAnswer>),
    /// Another task makes the call: wait for it.
    Follow,
    /// No task leads. Only for those that did not ask to lead.
    Free,
    /// The memo is of another call: the idempotency key was used twice.
    Mismatch,
    /// The leader is gone, and may have sent a call that must not be sent again.
    Unknown,
}

impl FromRedisValue for LeadDecision {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        Ok(match values.next::<String>()?.as_str() {
            "answer" => Self::Answer(Box::new(KeptAnswer::next(&mut values)?)),
            "lead" => Self::Lead,
            "follow" => Self::Follow,
            "free" => Self::Free,
            "mismatch" => Self::Mismatch,
            "unknown" => Self::Unknown,
            _ => return Err("not a decision of a memo".into()),
        })
    }
}

/// An answer that a memo stores.
#[derive(Debug, Clone)]
pub struct KeptAnswer {
    /// The result of the task that got it, without what is that task's alone: id, meta, when it was pushed.
    pub result: TaskResult,
    /// That task's serial.
    pub by: String,
}

impl KeptAnswer {
    pub(crate) fn parse(answer: &[u8], by: String) -> Result<Self, ParsingError> {
        let result =
            serde_json::from_slice(answer).map_err(|_| ParsingError::from("a stored answer is not a result"))?;
        Ok(Self { result, by })
    }

    fn next(values: &mut Values) -> Result<Self, ParsingError> {
        let answer: Vec<u8> = values.next()?;
        Self::parse(&answer, values.next()?)
    }
}

/// How a lead ended.
#[derive(Debug)]
pub enum LeadOutcome {
    /// As the leader asked; these queues have followers.
    Done(Vec<QueueName>),
    /// An answer is stored already: another task led meanwhile, or this was sent twice.
    Stands(Box<KeptAnswer>, Vec<QueueName>),
    /// Another task leads, or another delivery of this one: nothing was written.
    Lost,
}

impl FromRedisValue for LeadOutcome {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let queues = |values: Values| -> Result<Vec<QueueName>, ParsingError> {
            Ok(values.rest::<String>()?.iter().filter_map(|name| QueueName::new(name).ok()).collect())
        };
        Ok(match values.next::<String>()?.as_str() {
            "settled" => Self::Done(queues(values)?),
            "kept" => {
                let answer = KeptAnswer::next(&mut values)?;
                Self::Stands(Box::new(answer), queues(values)?)
            }
            "lost" => Self::Lost,
            _ => return Err("not an outcome of a lead".into()),
        })
    }
}
