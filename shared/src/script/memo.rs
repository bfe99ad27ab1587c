//! Memos. Each is one key, in a Cluster slot of its own.

use std::sync::Arc;

use redis::{FromRedisValue, ParsingError, Value};

use super::{Invocation, Rest, Values, typed_calls};
use crate::{QueueName, TaskResult};

typed_calls! {
    /// Asks memos what tasks should do. For each: what its memo says.
    Lead = "memo/lead" + ["clock", "out_of_memory", "attempt"] -> MemoReplies<LeadDecision> {
        keys: ;
        args: ;
        rest requests: &'a [LeadRequest] = [mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once];
    }

    /// Ends the leads of memos. For each: how it ended.
    Settle = "memo/settle" + ["clock", "attempt"] -> MemoReplies<LeadOutcome> {
        keys: ;
        args: ;
        rest requests: &'a [SettleRequest] = [serial, token, answer, ttl_ms, is_good];
    }

    /// Drops the answer that a memo stores. `false`: there was no such answer.
    Forget = "memo/forget" + [] -> bool {
        keys: memo;
        args: what: &'a str;
    }
}

/// A task that asks a memo: see the header of the script.
#[derive(Debug, Clone)]
pub struct LeadRequest {
    /// The key of the memo.
    pub memo: String,
    /// On whose behalf.
    pub mode: &'static str,
    /// The task's.
    pub serial: String,
    /// Of this delivery.
    pub token: String,
    /// The task's.
    pub queue: String,
    /// The call's; "" if any will do.
    pub fingerprint: String,
    /// The age that an answer must be below.
    pub max_age_ms: u64,
    /// How long to lead.
    pub lease_ms: u64,
    /// The call is about to be sent and may not be sent twice.
    pub once: bool,
}

impl Rest for LeadRequest {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        keys.push(&self.memo);
    }

    fn push_args(&self, call: &mut Invocation) {
        for text in [self.mode, &self.serial, &self.token, &self.queue, &self.fingerprint] {
            call.arg(&text);
        }
        call.arg(&self.max_age_ms);
        call.arg(&self.lease_ms);
        call.arg(&self.once);
    }
}

/// A task that ends its lead: see the header of the script.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// The key of the memo.
    pub memo: String,
    /// The leader's.
    pub serial: String,
    /// Of its delivery; "" if no worker holds it.
    pub token: String,
    /// The answer that is stored; "" for none.
    pub answer: Arc<str>,
    /// How long it is stored.
    pub ttl_ms: u64,
    /// Whether it is a success.
    pub is_good: bool,
}

impl Rest for SettleRequest {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        keys.push(&self.memo);
    }

    fn push_args(&self, call: &mut Invocation) {
        for text in [self.serial.as_str(), &self.token, &self.answer] {
            call.arg(&text);
        }
        call.arg(&self.ttl_ms);
        call.arg(&self.is_good);
    }
}

/// What memos reply, in the order of the requests. `None`: this request failed in the company of others. Sent alone, it tells why.
#[derive(Debug)]
pub struct MemoReplies<T>(pub Vec<Option<T>>);

impl<T: FromRedisValue> FromRedisValue for MemoReplies<T> {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let has_failed = |reply: &Value| match reply {
            Value::Array(words) => matches!(&words[..], [Value::BulkString(word)] if word == b"failed"),
            _ => false,
        };
        let reply_of = |reply| if has_failed(&reply) { Ok(None) } else { T::from_redis_value(reply).map(Some) };
        Vec::<Value>::from_redis_value(reply)?.into_iter().map(reply_of).collect::<Result<_, _>>().map(Self)
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
