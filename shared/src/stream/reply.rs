//! What `XREAD` replies.

use redis::{FromRedisValue, Value};

use crate::protocol::stream::StreamFailure;
use crate::{EntryId, Error, Status, StreamEvent};

/// Keys, each with its entries.
pub(super) type FoundEntries = Vec<(String, Vec<(EntryId, StreamEvent)>)>;

/// Parses a reply, in either version of Redis's protocol. An entry of an unknown type counts as data without bytes.
///
/// # Errors
/// It is no reply of `XREAD`.
pub(super) fn parse(reply: Value) -> Result<FoundEntries, Error> {
    let streams: Vec<(Value, Value)> = match reply {
        Value::Nil => Vec::new(),
        Value::Map(streams) => streams,
        Value::Array(streams) => streams.into_iter().map(pair).collect::<Result<_, _>>()?,
        other => return Err(unexpected(&other)),
    };
    streams
        .into_iter()
        .map(|(key, entries)| Ok((text(key)?, array(entries)?.into_iter().map(entry).collect::<Result<_, _>>()?)))
        .collect()
}

fn entry(value: Value) -> Result<(EntryId, StreamEvent), Error> {
    let (id, fields) = pair(value)?;
    let id = EntryId::parse(&text(id)?)?;
    let mut fields = array(fields)?.into_iter();
    let mut next = || match fields.next() {
        Some(Value::BulkString(bytes)) => bytes,
        _ => Vec::new(),
    };
    let (_, kind, _, data) = (next(), next(), next(), next());
    let event = StreamEvent::parse(&kind, data).map(|event| event.unwrap_or_else(|| StreamEvent::Data(Vec::new())));
    // What was not written by Redial ends this stream, and no other.
    let event = event.unwrap_or_else(|error| {
        StreamEvent::Error(StreamFailure { status: Status::Ok, reason: None, error: error.to_string() })
    });
    Ok((id, event))
}

fn pair(value: Value) -> Result<(Value, Value), Error> {
    let mut values = array(value)?.into_iter();
    match (values.next(), values.next()) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(unexpected(&Value::Nil)),
    }
}

fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected(&other)),
    }
}

fn text(value: Value) -> Result<String, Error> {
    String::from_redis_value(value).map_err(|error| Error::Data(format!("the reply of XREAD: {error}")))
}

fn unexpected(value: &Value) -> Error {
    Error::Data(format!("the reply of XREAD: {value:?}"))
}
