//! Dead letters without their tasks.

use redis::{FromRedisValue, ParsingError, Value};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::{Values, typed_calls};
use crate::UnixMs;

typed_calls! {
    /// Lists dead letters without their tasks.
    DeadPage = "task/dead_page" + [] -> DeadPageReply {
        keys: dead;
        args: skip: usize, max_letters: usize, max_bytes: usize;
    }
}

/// What one needs to choose among dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterSummary {
    /// When it died. With the serial it names the letter.
    pub at: UnixMs,
    /// The task's serial; empty if Redial did not write the letter.
    pub serial: String,
    /// The task's id, if it could be read.
    pub id: Option<String>,
    /// Why it is dead; empty if Redial did not write the letter.
    pub reason: String,
    /// What went wrong, shortened.
    pub error: String,
    /// The host and port of its URL; empty if it has none.
    pub upstream: String,
    /// The size of the letter.
    pub bytes: u64,
}

impl DeadLetterSummary {
    /// Takes over what the beginning of a header says. It may be cut off: what comes before that counts.
    pub(crate) fn read_header(&mut self, beginning: &[u8]) {
        let _ = serde_json::Deserializer::from_slice(beginning).deserialize_map(HeaderFields(self));
    }
}

/// The reply of [`DeadPage`].
#[derive(Debug)]
pub struct DeadPageReply(pub Vec<DeadLetterSummary>);

impl FromRedisValue for DeadPageReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let mut letters = Vec::new();
        while !values.is_empty() {
            let at = UnixMs::from_double(values.next()?);
            let header: Vec<u8> = values.next()?;
            let mut letter = DeadLetterSummary { at, ..DeadLetterSummary::default() };
            letter.read_header(&header);
            letter.upstream = values.next()?;
            letter.bytes = values.next()?;
            letters.push(letter);
        }
        Ok(Self(letters))
    }
}

/// Reads the fields of a header one by one.
struct HeaderFields<'a>(&'a mut DeadLetterSummary);

impl<'de> Visitor<'de> for HeaderFields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the header of a dead letter")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "serial" => self.0.serial = map.next_value()?,
                "id" => self.0.id = map.next_value()?,
                "died_of" | "reason" => self.0.reason = map.next_value::<Option<String>>()?.unwrap_or_default(),
                "why" => self.0.error = map.next_value()?,
                "error" if self.0.error.is_empty() => {
                    self.0.error = map.next_value::<Option<String>>()?.unwrap_or_default();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
