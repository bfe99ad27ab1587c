//! What Redial stores about a task besides the producer's bytes: one header line in front of them.
//!
//! The format is `<serial> <first_seen_ms> <crashes> <started> <state>`, a newline, and the bytes. Scripts read the fields before the
//! state; `started` is the [`StartMarker`] as a digit; the state is JSON that only workers read, or `-` for a task that has none yet.

use serde::{Deserialize, Serialize};

use crate::protocol::id::Token;
use crate::{Attempt, Error, UnixMs};

/// A claimed task: its token, its header, and its bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The fencing token of this delivery.
    pub token: Token,
    /// What Redial knows about the task.
    pub header: EntryHeader,
    /// The producer's bytes, exactly.
    pub raw: Vec<u8>,
}

/// What Redial knows about a task besides its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryHeader {
    /// The task's unique name inside Redial: the token of its first delivery.
    pub serial: String,
    /// When a worker first claimed it.
    pub first_seen: UnixMs,
    /// How many times its worker died while it held the task, or could not go on with it.
    pub crashes: u32,
    /// How far a delivery got whose outcome is unknown.
    pub started: StartMarker,
    /// Its progress so far.
    pub state: Progress,
}

/// How far a delivery is known to have got, should its worker die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartMarker {
    /// Not known.
    #[default]
    Absent,
    /// The task is about to be parsed, alone in its worker because it is a suspect. No call was sent.
    Opening,
    /// A call was about to be sent.
    Calling,
}

impl StartMarker {
    fn digit(self) -> char {
        match self {
            Self::Absent => '0',
            Self::Calling => '1',
            Self::Opening => '2',
        }
    }

    fn parse(digit: &str) -> Option<Self> {
        [Self::Absent, Self::Calling, Self::Opening].into_iter().find(|marker| digit.parse() == Ok(marker.digit()))
    }
}

/// A task's progress: its attempts, and what limits and memos hold for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Attempts that count against `max_attempts`.
    #[serde(rename = "n", default)]
    pub counted: u32,
    /// Attempts that did not count because the upstream said when to come back.
    #[serde(rename = "p", default)]
    pub uncounted: u32,
    /// The last backoff, for decorrelated jitter.
    #[serde(rename = "b", default)]
    pub backoff_ms: u64,
    /// Until when it waits for its limits at most; then it is over budget.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<UnixMs>,
    /// The last retry that asked the retry budget, by the number of attempts counted before it, and whether it was admitted.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub retry_reservation: Option<(u32, bool)>,
    /// The hashes of the memos that it leads while no worker holds it; cancelling it ends their lead.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub leads: Vec<String>,
    /// Every attempt, oldest first; at most the last [`Progress::MAX_ATTEMPTS`].
    #[serde(rename = "a", default)]
    pub attempts: Vec<Attempt>,
}

impl Progress {
    /// How many attempts are kept.
    pub const MAX_ATTEMPTS: usize = 32;

    /// Adds an attempt.
    pub fn remember(&mut self, attempt: Attempt) {
        if self.attempts.len() == Self::MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }
}

/// The end of the serial of a delivery. Redial makes all serials, so that this tells a delivery from a task that a producer made up.
const DELIVERY_SUFFIX: &str = ":callback";

/// Whether the task with this serial is the delivery of a result, which Redial made.
pub fn is_delivery(serial: &str) -> bool {
    serial.ends_with(DELIVERY_SUFFIX)
}

impl EntryHeader {
    /// The token that fences the task while it is parked: its serial.
    pub fn parked_token(&self) -> Token {
        Token(self.serial.clone())
    }

    /// The header as scripts store it.
    pub fn to_line(&self) -> String {
        let state = if self.state == Progress::default() {
            "-".to_owned()
        } else {
            // It cannot fail: plain data with string keys.
            serde_json::to_string(&self.state).unwrap_or_else(|_| "-".into())
        };
        let Self { serial, first_seen, crashes, started, .. } = self;
        format!("{serial} {first_seen} {crashes} {} {state}", started.digit())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, ' ');
        Some(Self {
            serial: fields.next()?.to_owned(),
            first_seen: UnixMs(fields.next()?.parse().ok()?),
            crashes: fields.next()?.parse().ok()?,
            started: StartMarker::parse(fields.next()?)?,
            state: match fields.next()? {
                "-" => Progress::default(),
                json => serde_json::from_str(json).ok()?,
            },
        })
    }
}

impl Entry {
    /// Parses an entry that a script returned.
    ///
    /// # Errors
    /// This version did not write the entry ([`Error::Data`]).
    pub fn parse(token: Token, mut bytes: Vec<u8>) -> Result<Self, Error> {
        let bad = || Error::Data(format!("the entry under token {}", token.as_str()));
        let newline = bytes.iter().position(|b| *b == b'\n').ok_or_else(bad)?;
        let line = std::str::from_utf8(&bytes[..newline]).map_err(|_| bad())?;
        let header = EntryHeader::parse(line).ok_or_else(bad)?;
        bytes.drain(..=newline);
        Ok(Self { token, header, raw: bytes })
    }

    /// Parses entries that a script returned. One that cannot be read must not stop the others: its token and the error stand apart.
    pub(crate) fn parse_all(found: impl IntoIterator<Item = (Token, Vec<u8>)>) -> (Vec<Self>, Vec<(Token, Error)>) {
        let found = found.into_iter();
        let (mut entries, mut unreadable) = (Vec::with_capacity(found.size_hint().0), Vec::new());
        for (token, bytes) in found {
            match Self::parse(token.clone(), bytes) {
                Ok(entry) => entries.push(entry),
                Err(error) => unreadable.push((token, error)),
            }
        }
        (entries, unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_parses_back_to_what_was_written() -> Result<(), Error> {
        let mut header = EntryHeader {
            serial: "w:1:1".into(),
            first_seen: UnixMs(1_763_900_000_000),
            crashes: 2,
            started: StartMarker::Calling,
            state: Progress::default(),
        };
        let attempt = Attempt {
            at_ms: UnixMs(5),
            took_ms: 3,
            http_status: Some(503),
            error: Some("status 503: a b".into()),
            wait_ms: Some(10),
        };
        for n in 0..40 {
            let bytes = [header.to_line().as_bytes(), b"\n{\n\xff}"].concat();
            let entry = Entry::parse(Token("t".into()), bytes)?;
            assert_eq!(entry.header, header);
            assert_eq!(entry.raw, b"{\n\xff}");
            header.state.counted = n;
            header.state.remember(attempt.clone());
        }
        assert_eq!(header.state.attempts.len(), Progress::MAX_ATTEMPTS);
        Ok(())
    }

    #[test]
    fn bytes_that_are_not_an_entry_are_an_error() {
        for bad in ["", "no newline", "a b c d e\nraw", "s 1 0 0 {\nraw", "s 1 0 9 -\nraw"] {
            assert!(Entry::parse(Token("t".into()), bad.into()).is_err(), "{bad:?}");
        }
    }
}
