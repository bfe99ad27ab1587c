//! The stream of a task's answer.

use redis::{FromRedisValue, ParsingError, Value};

use super::{Invocation, Rest, typed_calls};

typed_calls! {
    /// Appends a part of an answer to the stream of its task.
    AppendToStream = "stream/append" + ["clock", "out_of_memory", "stream"] -> Appended {
        keys: held, stream;
        args: token: &'a str, ttl_ms: u64, epoch: Option<u64>, number: u64;
        rest parts: &'a [StreamPart<'a>] = [kind, data];
    }
}

/// An entry of a stream as it is appended while a call runs.
#[derive(Debug, Clone, Copy)]
pub enum StreamPart<'a> {
    /// Status and headers of the answer, as JSON. The first entry of a delivery.
    Head(&'a str),
    /// Bytes of its body.
    Data(&'a [u8]),
    /// What came before is void: why, as JSON.
    Restart(&'a str),
}

impl Rest for StreamPart<'_> {
    fn push_args(&self, call: &mut Invocation) {
        match self {
            Self::Head(json) => {
                call.arg(&"head");
                call.arg(json);
            }
            Self::Data(bytes) => {
                call.arg(&"data");
                call.arg(bytes);
            }
            Self::Restart(json) => {
                call.arg(&"restart");
                call.arg(json);
            }
        }
    }
}

/// What became of a part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the stream, under ids that begin with this number.
    Done(u64),
    /// The lease was lost: it is not.
    LeaseLost,
    /// The stream was deleted while it was written.
    Gone,
}

impl FromRedisValue for Appended {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        Ok(match i64::from_redis_value(value)? {
            0 => Self::LeaseLost,
            epoch => u64::try_from(epoch).map_or(Self::Gone, Self::Done),
        })
    }
}
