//! Recording events, and reading those that are kept.

use std::time::Duration;

use crate::db::stream_entries::{self, RawEntry};
use crate::protocol::event::TaskEvent;
use crate::protocol::json;
use crate::script::millis;
use crate::{EntryId, Error, Queue};

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
        let json = json::to_string(&events, TYPICAL_BYTES).map_err(|error| Error::Data(format!("events: {error}")))?;
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
        Ok(pages(self.event_entries(range).await?))
    }

    /// Behind which entry the events of this last span of time begin; without one, those that are yet to come.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn events_since(&self, span: Option<Duration>) -> Result<EntryId, Error> {
        let Some(span) = span else { return self.last_event().await };
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Ok(EntryId::before_ms(self.db.now().await?.0.saturating_sub(span)))
    }

    /// The last entry of the stream.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn last_event(&self) -> Result<EntryId, Error> {
        let mut last = redis::cmd("XREVRANGE");
        last.arg(&self.keys.events).arg("+").arg("-").arg("COUNT").arg(1);
        Ok(self.event_entries(last).await?.first().map_or(EntryId::START, |(id, _)| *id))
    }

    async fn event_entries(&self, command: redis::Cmd) -> Result<Vec<RawEntry>, Error> {
        stream_entries::entries(self.db.run(async |connection| command.query_async(connection).await).await?)
    }
}

/// Parses entries. Events that another version wrote are left out.
pub(super) fn pages(entries: Vec<RawEntry>) -> Vec<EventPage> {
    entries.into_iter().map(page).collect()
}

fn page((id, fields): RawEntry) -> EventPage {
    let json = match &fields[..] {
        [field, json] if field == FIELD.as_bytes() => json.as_slice(),
        _ => b"[]",
    };
    let events: Vec<serde_json::Value> = serde_json::from_slice(json).unwrap_or_default();
    EventPage { id, events: events.into_iter().filter_map(|event| serde_json::from_value(event).ok()).collect() }
}
