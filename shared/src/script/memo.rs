//! Memos. Each is one key, in a Cluster slot of its own.

use std::sync::Arc;

use redis::{FromRedisValue, ParsingError, Value};

use super::memo_value::MemoValue;
use super::{Invocation, Rest, Values, typed_calls};
use crate::{Error, QueueName, TaskResult};

typed_calls! {
    /// Asks memos what tasks should do.
    Lead = "memo/lead" + ["clock", "out_of_memory", "each_apart", "memo"] -> EachReply<LeadDecision> {
        keys: ;
        args: ;
        rest requests: &'a [LeadRequest] = [mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once, keep_ms];
    }

    /// Ends leads of memos.
    Settle = "memo/settle" + ["clock", "out_of_memory", "each_apart", "memo"] -> EachReply<LeadOutcome> {
        keys: ;
        args: ;
        rest requests: &'a [SettleRequest] = [serial, token, answer, ttl_ms, is_good];
    }

    /// Drops the answer that a memo stores. `false`: there was no such answer.
    Forget = "memo/forget" + ["out_of_memory", "memo"] -> bool {
        keys: key;
        args: what: &'a str;
    }
}

/// One question of [`Lead`].
#[derive(Debug, Clone)]
pub struct LeadRequest {
    /// The key of the memo.
    pub memo: String,
    /// `lead`, `recheck` or `check_leader`.
    pub mode: &'static str,
    /// The task's serial.
    pub serial: String,
    /// The fence of its delivery.
    pub token: String,
    /// The queue it came from.
    pub queue: String,
    /// The call's; empty if any will do.
    pub fingerprint: String,
    /// The age that an answer must be below.
    pub max_age_ms: u64,
    /// How long to lead.
    pub lease_ms: u64,
    /// Whether the call is about to be sent and may not be sent twice.
    pub once: bool,
    /// For how long the answer will be kept.
    pub keep_ms: u64,
}

impl Rest for LeadRequest {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        keys.push(&self.memo);
    }

    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.mode);
        for text in [&self.serial, &self.token, &self.queue, &self.fingerprint] {
            call.arg(text);
        }
        call.arg(&self.max_age_ms);
        call.arg(&self.lease_ms);
        call.arg(&self.once);
        call.arg(&self.keep_ms);
    }
}

/// One lead that [`Settle`] ends.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// The key of the memo.
    pub memo: String,
    /// The leader's serial.
    pub serial: String,
    /// The fence of its delivery; empty if no worker holds it.
    pub token: String,
    /// What is to be stored; empty: nothing.
    pub answer: Arc<str>,
    /// For how long it is kept.
    pub ttl_ms: u64,
    /// Whether the answer is a success.
    pub is_good: bool,
}

impl Rest for SettleRequest {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        keys.push(&self.memo);
    }

    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.serial);
        call.arg(&self.token);
        call.arg(&&*self.answer);
        call.arg(&self.ttl_ms);
        call.arg(&self.is_good);
    }
}

/// What a script replies to requests that have nothing to do with each other: to each what became of it, in order.
#[derive(Debug)]
pub struct EachReply<T>(pub Vec<Result<T, Error>>);

impl<T: FromRedisValue> FromRedisValue for EachReply<T> {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let replies = Vec::<Value>::from_redis_value(reply)?;
        Ok(Self(replies.into_iter().map(one_reply).collect()))
    }
}

fn one_reply<T: FromRedisValue>(reply: Value) -> Result<T, Error> {
    if let Value::Array(values) = &reply
        && let [Value::BulkString(word), Value::BulkString(why)] = values.as_slice()
        && word == b"error"
    {
        return Err(error_of(&String::from_utf8_lossy(why)));
    }
    T::from_redis_value(reply).map_err(|error| Error::Data(format!("the reply about a memo: {error}")))
}

/// The error that Redis would have replied to a call of its own.
fn error_of(why: &str) -> Error {
    let line = format!("-{}\r\n", why.replace(['\r', '\n'], " "));
    match redis::parse_redis_value(line.as_bytes()).and_then(Value::extract_error) {
        Err(error) => Error::Redis(error),
        Ok(_) => Error::Data(why.to_owned()),
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
    pub(crate) fn of(memo: &MemoValue<'_>) -> Result<Self, ParsingError> {
        let result =
            serde_json::from_slice(memo.answer).map_err(|_| ParsingError::from("a stored answer is not a result"))?;
        Ok(Self { result, by: memo.stored_by.to_owned() })
    }

    fn next(values: &mut Values) -> Result<Self, ParsingError> {
        let memo: Vec<u8> = values.next()?;
        Self::of(&MemoValue::parse(&memo)?)
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
