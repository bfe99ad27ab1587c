//! What a response says about the upstream's rate limits: in the headers that the preset names, and in the field `RateLimit` of the
//! IETF draft. Values that cannot be parsed are ignored.

use std::time::Duration;

use http::HeaderName;

use super::ratelimit_field;
use super::reader::AdviceReader;
use crate::http::presets::{CountedUnit, TimeUnit};

/// What one response says about rate limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RateLimitInfo {
    /// Nothing remains until this much time has passed.
    pub exhausted_for: Option<Duration>,
    /// How many requests remain.
    pub requests: Option<f64>,
    /// How many tokens remain.
    pub tokens: Option<f64>,
}

impl AdviceReader<'_> {
    /// Reads all of them. A reset is only looked at where nothing remains, or where a 429 does not say what remains.
    pub(super) fn rate_limits(&mut self) -> RateLimitInfo {
        let preset = self.preset;
        let mut info = RateLimitInfo::default();
        for limit in &preset.limit_headers {
            let left = self.text(&limit.remaining).map(str::parse::<f64>);
            let is_exhausted = match left {
                // Nonsense, or a number that means "unknown".
                Some(Err(_)) => continue,
                Some(Ok(left)) if !left.is_finite() || left < 0.0 => continue,
                Some(Ok(left)) if left >= 1.0 => {
                    info.remain(left, limit.counts);
                    false
                }
                Some(Ok(_)) => !preset.ignore_zero_remaining,
                None => self.response.status == 429,
            };
            if let Some(text) = self.text(&limit.reset).filter(|_| is_exhausted) {
                info.exhaust(self.reset(limit.reset.as_str(), text, limit.unit));
            }
        }
        for reset in ratelimit_field::exhausted(&self.response.headers) {
            info.exhaust(self.reset("ratelimit", reset, TimeUnit::S));
        }
        info
    }

    fn text<'b>(&self, name: &HeaderName) -> Option<&'b str>
    where
        Self: 'b,
    {
        self.response.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }
}

impl RateLimitInfo {
    fn exhaust(&mut self, reset: Option<Duration>) {
        self.exhausted_for = self.exhausted_for.max(reset);
    }

    fn remain(&mut self, left: f64, counts: CountedUnit) {
        let known = match counts {
            CountedUnit::Requests => &mut self.requests,
            CountedUnit::Tokens => &mut self.tokens,
        };
        *known = Some(known.map_or(left, |other| other.min(left)));
    }
}
