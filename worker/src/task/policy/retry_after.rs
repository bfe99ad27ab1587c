//! The wait that a response asks for, in its headers or in its body.

use std::time::Duration;

use serde_json::Value;

use super::reader::{AdviceReader, texts};
use super::time_text;
use crate::http::presets::TimeUnit;

impl AdviceReader<'_> {
    /// The first header of the preset that states a wait counts, as in the official SDKs of OpenAI and Anthropic: `retry-after-ms` before
    /// `Retry-After` (RFC 9110 §10.2.3). If it is repeated, or proxies have joined it to a list, the longest wait counts.
    pub(super) fn wait_in_headers(&mut self) -> Option<Duration> {
        let (response, preset) = (self.response, self.preset);
        for header in &preset.wait_headers {
            let name = header.name.as_str();
            let values = response.headers.get_all(&header.name).iter().filter_map(|value| value.to_str().ok());
            let waits: Vec<_> = values.filter_map(|value| self.longest_of(name, value, header.unit)).collect();
            if let Some(longest) = waits.into_iter().max() {
                return Some(longest);
            }
        }
        None
    }

    /// The longest wait of a value that may be a list. A comma may also be a part of a date.
    fn longest_of(&mut self, name: &str, value: &str, unit: TimeUnit) -> Option<Duration> {
        if time_text::seconds_until(value, unit, self.now).is_some() || !value.contains(',') {
            return self.stated(name, value, unit);
        }
        let parts: Vec<&str> = value.split(',').collect();
        let (mut longest, mut at) = (None, 0);
        while at < parts.len() {
            let date = parts.get(at + 1).map(|after| format!("{},{after}", parts[at]));
            let date = date.filter(|date| time_text::seconds_until(date, unit, self.now).is_some());
            at += if date.is_some() { 2 } else { 1 };
            let wait = match date {
                Some(date) => self.stated(name, &date, unit),
                None => self.stated(name, parts[at - 1], unit),
            };
            longest = longest.max(wait);
        }
        longest
    }

    /// Where the preset says that a body has a wait, or in the message for people.
    pub(super) fn wait_in_body(&mut self, body: Option<&Value>) -> Option<Duration> {
        let (preset, body) = (self.preset, body?);
        let stated = texts(&preset.wait_paths, body);
        let longest = stated.iter().filter_map(|text| self.stated("the wait in the body", text, TimeUnit::Auto)).max();
        longest.or_else(|| {
            let messages = texts(&preset.message_paths, body);
            let waits = messages.iter().filter_map(|message| wait_in_words(message, &preset.wait_phrases));
            waits.map(time_text::wait).filter(|wait| !wait.is_zero()).max()
        })
    }
}

/// The wait, in seconds, after one of the phrases in a message.
fn wait_in_words(message: &str, phrases: &[String]) -> Option<f64> {
    let message = message.to_lowercase();
    phrases.iter().find_map(|phrase| {
        let mut places = message.match_indices(phrase.as_str());
        places.find_map(|(at, _)| time_text::leading_wait(&message[at + phrase.len()..]))
    })
}
