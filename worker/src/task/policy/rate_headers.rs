//! What a response reveals about the upstream's rate limits, in every common spelling. Pure: the time is an argument.
//!
//! OpenAI: `x-ratelimit-{remaining,reset}-{requests,tokens}`, resets as Go durations (`6m0s`); Azure may send -1.
//! Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{remaining,reset}`, resets by RFC 3339.
//! Others: `x-ratelimit-{remaining,reset}`, resets in seconds, as a Unix time, or as a date. The IETF draft
//! (draft-ietf-httpapi-ratelimit-headers): `RateLimit: "name";r=0;t=30`. Values that cannot be parsed are ignored.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use redial_core::UnixMs;

/// What the headers of one response say about rate limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RateLimitInfo {
    /// Nothing remains until this much time has passed.
    pub exhausted_for: Option<Duration>,
    /// How many requests remain.
    pub requests: Option<f64>,
    /// How many tokens remain.
    pub tokens: Option<f64>,
}

/// The header with what remains, the header with its reset, and whether they count tokens.
const PAIRS: [(&str, &str, bool); 7] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", false),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", true),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", false),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", true),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", true),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset", true),
    ("x-ratelimit-remaining", "x-ratelimit-reset", false),
];

/// Reads all of them.
pub fn parse(headers: &HeaderMap, now: UnixMs) -> RateLimitInfo {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let mut info = RateLimitInfo::default();
    for (remaining, reset, is_tokens) in PAIRS {
        let left = text(remaining).and_then(|text| text.parse().ok());
        info.add(left, text(reset).and_then(|text| until_reset(text, now)), is_tokens);
    }
    for value in headers.get_all("ratelimit") {
        for item in value.to_str().unwrap_or_default().split(',') {
            let parameter = |name: &str| {
                let mut parts = item.split(';').map(str::trim);
                parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok())
            };
            let reset = parameter("t").and_then(|t| Duration::try_from_secs_f64(t).ok());
            info.add(parameter("r").filter(|r| *r <= 0.0), reset, false);
        }
    }
    info
}

impl RateLimitInfo {
    fn add(&mut self, left: Option<f64>, reset: Option<Duration>, is_tokens: bool) {
        let Some(left) = left.filter(|left: &f64| *left >= 0.0) else { return };
        if left < 1.0 {
            self.exhausted_for = self.exhausted_for.max(reset.filter(|reset| !reset.is_zero()));
            return;
        }
        let known = if is_tokens { &mut self.tokens } else { &mut self.requests };
        *known = Some(known.map_or(left, |other| other.min(left)));
    }
}

/// The time until a reset: `12ms`, `6m0s`; seconds, or a Unix time if the number is too large for a wait; an RFC 3339 or HTTP date.
fn until_reset(text: &str, now: UnixMs) -> Option<Duration> {
    const MAX_SECONDS: f64 = 366.0 * 86_400.0;
    let at = |at: Duration| Some(at.saturating_sub(Duration::from_millis(now.0)));
    if let Ok(seconds) = text.parse::<f64>() {
        let span = Duration::try_from_secs_f64(seconds).ok()?;
        return if seconds > MAX_SECONDS { at(span) } else { Some(span) };
    }
    if let Some(span) = go_duration(text) {
        return Some(span);
    }
    let date = humantime::parse_rfc3339(text).or_else(|_| httpdate::parse_http_date(text)).ok()?;
    at(date.duration_since(UNIX_EPOCH).ok()?)
}

/// A duration in Go's notation: numbers with units, fractions allowed, as in `1m2.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let units = &rest[unit_at..];
        let end = units.find(|c: char| c.is_ascii_digit()).unwrap_or(units.len());
        seconds += number
            * match &units[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "\u{b5}s" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &units[end..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const NOW: UnixMs = UnixMs(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    fn parsed(headers: &[(&'static str, &'static str)]) -> RateLimitInfo {
        let pairs = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        parse(&pairs.collect(), NOW)
    }

    #[test]
    fn an_exhausted_limit_is_known_until_its_reset_in_every_spelling() {
        for (remaining, reset, text, ms) in [
            ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "12ms", Some(12)),
            ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "6m0s", Some(360_000)),
            ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "1m2.5s", Some(62_500)),
            (
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
                "1994-11-06T08:49:40Z",
                Some(3_000),
            ),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "3", Some(3_000)),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "784111780", Some(3_000)),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "Sun, 06 Nov 1994 08:49:40 GMT", Some(3_000)),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "soon", None),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "-1", None),
        ] {
            let found = parsed(&[(remaining, "0"), (reset, text)]);
            assert_eq!(found.exhausted_for, ms.map(Duration::from_millis), "{reset}: {text}");
        }
        assert_eq!(
            parsed(&[("ratelimit", "\"day\";r=5;t=9, \"second\";r=0;t=2")]).exhausted_for,
            Some(Duration::from_secs(2))
        );
    }

    #[test]
    fn what_remains_is_parsed_and_nonsense_is_ignored() {
        let found = parsed(&[
            ("x-ratelimit-remaining-requests", "7"),
            ("anthropic-ratelimit-input-tokens-remaining", "3000"),
            ("anthropic-ratelimit-tokens-remaining", "1000"),
        ]);
        assert_eq!(found, RateLimitInfo { exhausted_for: None, requests: Some(7.0), tokens: Some(1000.0) });
        for text in ["-1", "NaN", "many", ""] {
            assert_eq!(
                parsed(&[("x-ratelimit-remaining", text), ("x-ratelimit-reset", "0")]),
                RateLimitInfo::default(),
                "{text}"
            );
        }
    }
}
