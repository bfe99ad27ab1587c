//! What Redial keeps of a task beyond the producer's bytes: one header line before them.
//!
//! `<serial> <first_seen_ms> <crashes> <started> <state>`, a newline, the bytes. Scripts read the fields before the state;
//! the state is JSON for workers alone, `-` when there is none yet.

use serde::{Deserialize, Serialize};

use crate::limit::Reservation;
use crate::protocol::id::Token;
use crate::{Attempt, Error, UnixMs};

/// A task in a worker's hands: its token, what is known of it, and its bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The fence of this delivery.
    pub token: Token,
    /// What is known of the task.
    pub header: EntryHeader,
    /// The producer's bytes, exactly.
    pub raw: Vec<u8>,
}

/// What is known of a task beyond its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryHeader {
    /// The task's own name inside Redial, never used twice: the token of its first delivery.
    pub serial: String,
    /// When a worker first claimed it.
    pub first_seen: UnixMs,
    /// How many workers died with it in their hands.
    pub crashes: u32,
    /// Whether it is known that a call was about to go out, and not what became of it.
    pub started: bool,
    /// Its attempts so far.
    pub state: Progress,
}

/// What a task's attempts have been so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Attempts that count against `max_attempts`.
    #[serde(rename = "n", default)]
    pub counted: u32,
    /// Attempts that did not count, since the upstream said when to come back.
    #[serde(rename = "p", default)]
    pub uncounted: u32,
    /// The last backoff, for decorrelated jitter.
    #[serde(rename = "b", default)]
    pub backoff_ms: u64,
    /// What limits gave it to say when it comes back: their names, and times by their own clocks in us.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<(String, Reservation)>,
    /// The retry, by how many attempts had counted before it, that has been to the retry budget, and whether it has leave.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub retry_reservation: Option<(u32, bool)>,
    /// The memos that it leads while no worker holds it, by hash: who cancels it then ends their lead.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub leads: Vec<String>,
    /// Every call on the wire, oldest first; of more than [`Progress::MAX_ATTEMPTS`] the last ones.
    #[serde(rename = "a", default)]
    pub attempts: Vec<Attempt>,
}

impl Progress {
    /// How many attempts are remembered.
    pub const MAX_ATTEMPTS: usize = 32;

    /// Remembers an attempt.
    pub fn remember(&mut self, attempt: Attempt) {
        if self.attempts.len() == Self::MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }

    /// What a limit gave it before, to be told again.
    pub fn reservation_for(&self, limit: &str) -> Option<Reservation> {
        self.reservations.iter().find(|(name, _)| name == limit).map(|(_, reservation)| *reservation)
    }

    /// Keeps what a limit gave it, instead of what it gave before.
    pub fn set_reservation(&mut self, limit: &str, reservation: Reservation) {
        self.reservations.retain(|(name, _)| name != limit);
        self.reservations.push((limit.to_owned(), reservation));
    }
}

impl EntryHeader {
    /// What fences the task while it is a follower of another: its serial.
    pub fn parked_token(&self) -> Token {
        Token(self.serial.clone())
    }

    /// The header as scripts store it.
    pub fn to_line(&self) -> String {
        let state = if self.state == Progress::default() {
            "-".to_owned()
        } else {
            // It can't fail: plain data with string keys.
            serde_json::to_string(&self.state).unwrap_or_else(|_| "-".into())
        };
        let Self { serial, first_seen, crashes, started, .. } = self;
        format!("{serial} {first_seen} {crashes} {} {state}", u8::from(*started))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, ' ');
        Some(Self {
            serial: fields.next()?.to_owned(),
            first_seen: UnixMs(fields.next()?.parse().ok()?),
            crashes: fields.next()?.parse().ok()?,
            started: fields.next()? == "1",
            state: match fields.next()? {
                "-" => Progress::default(),
                json => serde_json::from_str(json).ok()?,
            },
        })
    }
}

impl Entry {
    /// Takes apart what a script answered.
    ///
    /// # Errors
    /// [`Error::Data`] when it is not what this version writes.
    pub fn parse(token: Token, mut bytes: Vec<u8>) -> Result<Self, Error> {
        let bad = || Error::Data(format!("the entry under token {}", token.as_str()));
        let newline = bytes.iter().position(|b| *b == b'\n').ok_or_else(bad)?;
        let line = std::str::from_utf8(&bytes[..newline]).map_err(|_| bad())?;
        let header = EntryHeader::parse(line).ok_or_else(bad)?;
        bytes.drain(..=newline);
        Ok(Self { token, header, raw: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_as_it_went() -> Result<(), Error> {
        let mut header = EntryHeader {
            serial: "w:1:1".into(),
            first_seen: UnixMs(1_763_900_000_000),
            crashes: 2,
            started: true,
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
    fn what_is_no_entry_is_an_error() {
        for bad in ["", "no newline", "a b c d e\nraw", "s 1 0 0 {\nraw"] {
            assert!(Entry::parse(Token("t".into()), bad.into()).is_err(), "{bad:?}");
        }
    }
}
