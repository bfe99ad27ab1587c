//! What a response says about when to call again: read once, and used for the task and for the limits. Pure: the time is an argument.

use std::time::Duration;

use redial_core::UnixMs;

use super::judge::Judgement;
use super::rate_headers::RateLimitInfo;
use super::reader::AdviceReader;
use crate::http::presets::Preset;
use crate::http::types::Response;

/// What a response says about when to call again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advice {
    /// The wait that a failed response asks for; never zero.
    pub wait: Option<Duration>,
    /// What it says about rate limits.
    pub limits: RateLimitInfo,
    /// The error code of a failed response that no retry helps against.
    pub final_code: Option<String>,
    /// What it says that cannot be true, and is therefore not obeyed.
    pub ignored: Option<String>,
}

impl Advice {
    /// Reads it, with what is known about the upstream. A reset that is more than `max_reset` away is not believed.
    pub fn read(response: &Response, preset: &Preset, now: UnixMs, max_reset: Duration) -> Self {
        Self::read_judged(response, &Judgement::ByStatus, preset, now, max_reset)
    }

    /// The same of a response that was judged by more than its status.
    pub fn read_judged(
        response: &Response,
        judgement: &Judgement,
        preset: &Preset,
        now: UnixMs,
        max_reset: Duration,
    ) -> Self {
        let mut reader = AdviceReader { response, preset, now, max_reset, ignored: None };
        let limits = reader.rate_limits();
        let body = match judgement {
            Judgement::Retry { error, .. } => error.clone(),
            _ if (200..300).contains(&response.status) => {
                return Self { limits, ignored: reader.ignored, ..Self::default() };
            }
            _ => reader.error_body(),
        };
        let wait = reader.wait_in_headers().or_else(|| reader.wait_in_body(body.as_ref()));
        let final_code = reader.final_code(body.as_ref());
        Self { wait, limits, final_code, ignored: reader.ignored }
    }

    /// For how long the response refuses calls: 429, and 402, 403 or 413 as OpenRouter, GitHub and RFC 9110 §15.5.14 use them, with a wait or with a
    /// limit that is exhausted. What the wait says counts more than a reset.
    pub fn refused_for(&self, status: u16) -> Option<Duration> {
        let refuses = matches!(status, 402 | 403 | 413 | 429);
        self.wait.or(self.limits.exhausted_for).filter(|_| refuses)
    }

    /// For how long limits admit no call after a response of that status.
    pub fn closes_for(&self, status: u16) -> Option<Duration> {
        self.refused_for(status).or(self.limits.exhausted_for)
    }
}
