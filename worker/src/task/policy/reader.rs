//! Reads the parts of a response that say when to call again.

use std::borrow::Cow;
use std::time::Duration;

use redial_core::UnixMs;
use redial_core::protocol::json;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::time_text;
use crate::http::presets::{Preset, TimeUnit};
use crate::http::types::Response;

/// The longest body of an error that is searched for a code or a wait: what is parsed between two awaits has to be small.
const MAX_ERROR_BODY: usize = 32 << 10;
/// How much of an ignored value a message quotes.
const MAX_QUOTED: usize = 60;

/// Reads one response.
pub(super) struct AdviceReader<'a> {
    pub(super) response: &'a Response,
    pub(super) preset: &'a Preset,
    pub(super) now: UnixMs,
    pub(super) max_reset: Duration,
    /// What it says that cannot be true.
    pub(super) ignored: Option<String>,
}

impl AdviceReader<'_> {
    /// A wait as stated; it may be longer than any bound.
    pub(super) fn stated(&mut self, name: &str, text: &str, unit: TimeUnit) -> Option<Duration> {
        let seconds = time_text::seconds_until(text, unit, self.now)?;
        if seconds < 0.0 {
            self.ignore(name, text, "lies in the past");
        }
        Some(time_text::wait(seconds)).filter(|wait| !wait.is_zero())
    }

    /// The time until a limit is full again.
    pub(super) fn reset(&mut self, name: &str, text: &str, unit: TimeUnit) -> Option<Duration> {
        let wait = self.stated(name, text, unit)?;
        if wait > self.max_reset {
            self.ignore(name, text, "is further away than max_stated_wait_ms");
            return None;
        }
        Some(wait)
    }

    fn ignore(&mut self, name: &str, text: &str, why: &str) {
        let quoted: String = text.chars().take(MAX_QUOTED).collect();
        self.ignored.get_or_insert_with(|| format!("ignoring {name} {quoted:?}, which {why}"));
    }

    /// The body of an error, if it is JSON and may hold something.
    pub(super) fn error_body(&self) -> Option<Value> {
        let body = json::without_mark(&self.response.body);
        let begins = body.iter().find(|byte| !byte.is_ascii_whitespace());
        let is_json = matches!(begins, Some(b'{' | b'[')) && body.len() <= MAX_ERROR_BODY;
        is_json.then(|| serde_json::from_slice(body).ok()).flatten()
    }

    /// The error code that no retry helps against, if the body has one.
    pub(super) fn final_code(&self, body: Option<&Value>) -> Option<String> {
        let codes = texts(&self.preset.code_paths, body?);
        let is_final = |code: &Cow<'_, str>| self.preset.final_codes.iter().any(|known| known == code);
        codes.into_iter().find(is_final).map(Cow::into_owned)
    }
}

/// The strings and numbers at these places of a body.
pub(super) fn texts<'a>(paths: &[JsonPath], body: &'a Value) -> Vec<Cow<'a, str>> {
    let nodes = paths.iter().flat_map(|path| path.query(body).all());
    let text = |node: &'a Value| match node {
        Value::String(text) => Some(Cow::Borrowed(text.as_str())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    };
    nodes.filter_map(text).collect()
}
