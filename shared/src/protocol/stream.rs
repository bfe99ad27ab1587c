//! The entries of the stream of a task's answer, as programs in any language read them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Reason, Status, TaskResult};

/// The id of an entry. A reader that knows the last one it has read goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Increases with each delivery of the task.
    epoch: u64,
    /// Increases within it.
    number: u64,
}

impl EntryId {
    /// Before the first entry of any stream.
    pub const START: Self = Self { epoch: 0, number: 0 };

    /// The last id before a time in ms, in a stream whose ids Redis chose: the entries of this time begin behind it.
    pub(crate) const fn before_ms(ms: u64) -> Self {
        Self { epoch: ms.saturating_sub(1), number: u64::MAX }
    }

    /// When the entry was written, in a stream whose ids Redis chose.
    pub(crate) const fn written_at(self) -> crate::UnixMs {
        crate::UnixMs(self.epoch)
    }

    /// Parses an id as it was displayed.
    ///
    /// # Errors
    /// The text is not an id ([`Error::Data`]).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts = text.split_once('-').and_then(|(epoch, number)| Some((epoch.parse().ok()?, number.parse().ok()?)));
        let (epoch, number) =
            parts.ok_or_else(|| Error::Data(format!("{text:?} is not the id of a stream's entry")))?;
        Ok(Self { epoch, number })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// An entry of the stream of a task's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEntry {
    /// Its id.
    pub id: EntryId,
    /// What it says.
    pub event: StreamEvent,
}

/// What an entry of a stream says.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// The answer begins. Whatever came before belongs to an attempt that broke off.
    Head(AnswerHead),
    /// Bytes of the body.
    Data(Vec<u8>),
    /// Forget what came: the attempt broke off, and there will be another one.
    Restart {
        /// Why.
        why: String,
    },
    /// The last entry: the answer is complete.
    End,
    /// The last entry: there is no complete answer, at least not in this stream.
    Error(StreamFailure),
}

/// How an answer begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerHead {
    /// The HTTP status.
    pub status: u16,
    /// The headers, as the result keeps them.
    pub headers: BTreeMap<String, String>,
}

/// Why a stream has no complete answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamFailure {
    /// `dead`; or `ok` if the result has the answer all the same.
    pub status: Status,
    /// Why the task is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What went wrong.
    pub error: String,
}

/// The data of a restart.
#[derive(Serialize, Deserialize)]
struct RestartData {
    why: String,
}

/// The data of the last entry of a complete answer.
#[derive(Serialize, Deserialize)]
struct EndData {
    status: Status,
}

impl StreamEvent {
    /// Whether nothing comes behind it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::End | Self::Error(_))
    }

    /// Parses an entry. `None`: it has a type that this version does not know, or none.
    ///
    /// # Errors
    /// Redial did not write its data ([`Error::Data`]).
    pub fn parse(kind: &[u8], data: Vec<u8>) -> Result<Option<Self>, Error> {
        fn json<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, Error> {
            serde_json::from_slice(data).map_err(|error| Error::Data(format!("an entry of a stream: {error}")))
        }
        Ok(Some(match kind {
            b"head" => Self::Head(json(&data)?),
            b"data" => Self::Data(data),
            b"restart" => Self::Restart { why: json::<RestartData>(&data)?.why },
            b"end" => Self::End,
            b"error" => Self::Error(json(&data)?),
            _ => return Ok(None),
        }))
    }
}

/// The data of a `head`.
pub fn head_data(head: &AnswerHead) -> String {
    to_json(head)
}

/// The data of a `restart`.
pub fn restart_data(why: &str) -> String {
    to_json(&RestartData { why: why.to_owned() })
}

/// The last entry of a task's stream: its type, a space, and its data.
pub fn last_entry(result: &TaskResult) -> String {
    let failed = |error: &str| {
        let failure = StreamFailure { status: result.status, reason: result.reason, error: error.to_owned() };
        format!("error {}", to_json(&failure))
    };
    match (result.status, &result.stream_error) {
        (Status::Ok, None) => format!("end {}", to_json(&EndData { status: Status::Ok })),
        (Status::Ok, Some(error)) => failed(error),
        (Status::Dead, _) => failed(result.error.as_deref().unwrap_or_default()),
    }
}

fn to_json(data: &impl Serialize) -> String {
    // It cannot fail: plain data with string keys.
    serde_json::to_string(data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMs;

    fn parsed(entry: &str) -> Result<Option<StreamEvent>, Error> {
        let (kind, data) = entry.split_once(' ').unwrap_or((entry, ""));
        StreamEvent::parse(kind.as_bytes(), data.as_bytes().to_vec())
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<(), Error> {
        let head = AnswerHead { status: 200, headers: BTreeMap::from([("a".into(), "b".into())]) };
        assert_eq!(parsed(&format!("head {}", head_data(&head)))?, Some(StreamEvent::Head(head)));
        assert_eq!(
            parsed(&format!("restart {}", restart_data("a \"b\"")))?,
            Some(StreamEvent::Restart { why: "a \"b\"".into() })
        );
        let mut result = TaskResult::new(None, Status::Ok, UnixMs(1));
        assert_eq!(parsed(&last_entry(&result))?, Some(StreamEvent::End));
        result.stream_error = Some("full".into());
        let failure = StreamFailure { status: Status::Ok, reason: None, error: "full".into() };
        assert_eq!(parsed(&last_entry(&result))?, Some(StreamEvent::Error(failure)));
        (result.status, result.reason, result.error) = (Status::Dead, Some(Reason::Cancelled), Some("no".into()));
        let failure = StreamFailure { status: Status::Dead, reason: Some(Reason::Cancelled), error: "no".into() };
        assert_eq!(parsed(&last_entry(&result))?, Some(StreamEvent::Error(failure)));
        assert_eq!(parsed("later {}")?, None);
        assert!(parsed("head nonsense").is_err());
        Ok(())
    }

    #[test]
    fn ids_are_ordered_as_redis_orders_them() -> Result<(), Error> {
        let [first, second, third] = ["5-9", "5-10", "12-1"].map(EntryId::parse);
        let (first, second, third) = (first?, second?, third?);
        assert!(EntryId::START < first && first < second && second < third);
        assert_eq!(third.to_string(), "12-1");
        assert!(EntryId::parse("$").is_err() && EntryId::parse("5").is_err() && EntryId::parse("-1-1").is_err());
        Ok(())
    }
}
