//! What Redis replies about streams, in either version of its protocol.

use redis::{FromRedisValue, Value};

use crate::{EntryId, Error};

/// An entry of a stream: its id, and its fields and their values in turn.
pub(crate) type RawEntry = (EntryId, Vec<Vec<u8>>);

/// Parses the reply of `XREAD`: keys, each with its entries.
///
/// # Errors
/// The reply has another form.
pub(crate) fn streams(reply: Value) -> Result<Vec<(String, Vec<RawEntry>)>, Error> {
    let streams: Vec<(Value, Value)> = match reply {
        Value::Nil => Vec::new(),
        Value::Map(streams) => streams,
        Value::Array(streams) => streams.into_iter().map(pair).collect::<Result<_, _>>()?,
        other => return Err(unexpected(&other)),
    };
    streams.into_iter().map(|(key, found)| Ok((text(key)?, entries(found)?))).collect()
}

/// Parses the reply of `XRANGE`.
///
/// # Errors
/// The reply has another form.
pub(crate) fn entries(reply: Value) -> Result<Vec<RawEntry>, Error> {
    array(reply)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<RawEntry, Error> {
    let (id, fields) = pair(value)?;
    let bytes = |value: Value| match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(unexpected(&other)),
    };
    Ok((EntryId::parse(&text(id)?)?, array(fields)?.into_iter().map(bytes).collect::<Result<_, _>>()?))
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
    String::from_redis_value(value).map_err(|error| Error::Data(format!("the reply about a stream: {error}")))
}

fn unexpected(value: &Value) -> Error {
    Error::Data(format!("the reply about a stream: {value:?}"))
}
