//! What `XREAD` replies about streams of answers.

use redis::Value;

use crate::db::stream_entries::{self, RawEntry};
use crate::protocol::stream::StreamFailure;
use crate::{EntryId, Error, Status, StreamEvent};

/// Keys, each with its entries.
pub(super) type FoundEntries = Vec<(String, Vec<(EntryId, StreamEvent)>)>;

/// Parses a reply. An entry of an unknown type counts as data without bytes.
///
/// # Errors
/// It is no reply of `XREAD`.
pub(super) fn parse(reply: Value) -> Result<FoundEntries, Error> {
    let streams = stream_entries::streams(reply)?;
    Ok(streams.into_iter().map(|(key, entries)| (key, entries.into_iter().map(entry).collect())).collect())
}

fn entry((id, fields): RawEntry) -> (EntryId, StreamEvent) {
    let mut fields = fields.into_iter();
    let mut next = || fields.next().unwrap_or_default();
    let (_, kind, _, data) = (next(), next(), next(), next());
    let event = StreamEvent::parse(&kind, data).map(|event| event.unwrap_or_else(|| StreamEvent::Data(Vec::new())));
    // What was not written by Redial ends this stream, and no other.
    let event = event.unwrap_or_else(|error| {
        StreamEvent::Error(StreamFailure { status: Status::Ok, reason: None, error: error.to_string() })
    });
    (id, event)
}
