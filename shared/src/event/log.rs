//! Recording events, and reading those that are kept.

use std::time::Duration;

use redis::Value;

use crate::protocol::event::TaskEvent;
use crate::script::millis;
use crate::{EntryId, Error, Queue, UnixMs};

/// The field of an entry: a JSON array of events.
const FIELD: &str = "events";
/// The size of an event about, from which the number of entries follows that are kept.
const TYPICAL_BYTES: usize = 200;

/// What is kept of the events of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRetention {
    /// For how long.
    pub time: Duration,
    /// How many bytes in all, about.
    pub max_bytes: usize,
}

/// Events that were written together.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The id of their entry, from behind which a reader goes on.
    pub id: EntryId,
    /// In their order.
    pub events: Vec<TaskEvent>,
}

impl Queue {
    /// Adds events to the stream. `trims`: also deletes what is older than the retention.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn append_events(
        &self,
        events: &[TaskEvent],
        retention: &EventRetention,
        trims: bool,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(events).map_err(|error| Error::Data(format!("events: {error}")))?;
        // Entries are of about the same size, as long as the load is.
        let max_entries = retention.max_bytes / json.len().max(TYPICAL_BYTES);
        let key = &self.keys.events;
        let mut append = redis::pipe();
        append.cmd("XADD").arg(key).arg("MAXLEN").arg("~").arg(max_entries).arg("*").arg(FIELD).arg(&json).ignore();
        if trims {
            let oldest = self.db.now().await?.0.saturating_sub(millis(retention.time));
            append.cmd("XTRIM").arg(key).arg("MINID").arg("~").arg(oldest).ignore();
            append.cmd("PEXPIRE").arg(key).arg(millis(retention.time)).ignore();
        }
        self.db.run(async |connection| append.exec_async(connection).await).await
    }

    /// The events behind an entry, oldest first, from at most `limit` entries.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn events_after(&self, after: EntryId, limit: usize) -> Result<Vec<EventPage>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(&self.keys.events).arg(format!("({after}")).arg("+").arg("COUNT").arg(limit);
        pages(self.db.run(async |connection| range.query_async(connection).await).await?)
    }

    /// The entry before the first one that was written at this time or later: the events of this time begin behind it.
    pub fn events_before(at: UnixMs) -> EntryId {
        EntryId::before_ms(at.0)
    }

    /// The last entry of the stream.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn last_event(&self) -> Result<EntryId, Error> {
        let mut last = redis::cmd("XREVRANGE");
        last.arg(&self.keys.events).arg("+").arg("-").arg("COUNT").arg(1);
        let last = pages(self.db.run(async |connection| last.query_async(connection).await).await?)?;
        Ok(last.first().map_or(EntryId::START, |page| page.id))
    }
}

/// Parses entries. Events that another version wrote are left out.
pub(super) fn pages(entries: Value) -> Result<Vec<EventPage>, Error> {
    let Value::Array(entries) = entries else { return Err(unexpected(&entries)) };
    entries.into_iter().map(page).collect()
}

fn page(entry: Value) -> Result<EventPage, Error> {
    let Value::Array(entry) = entry else { return Err(unexpected(&entry)) };
    let [Value::BulkString(id), Value::Array(fields)] = &entry[..] else { return Err(unexpected(&Value::Nil)) };
    let id = EntryId::parse(&String::from_utf8_lossy(id))?;
    let json = match &fields[..] {
        [Value::BulkString(field), Value::BulkString(json)] if field == FIELD.as_bytes() => json.as_slice(),
        _ => b"[]",
    };
    let events: Vec<serde_json::Value> = serde_json::from_slice(json).unwrap_or_default();
    Ok(EventPage { id, events: events.into_iter().filter_map(|event| serde_json::from_value(event).ok()).collect() })
}

fn unexpected(value: &Value) -> Error {
    Error::Data(format!("the entries of a stream of events: {value:?}"))
}
