//! What an attempt means: one table, one pure function. Time and randomness are arguments.

use std::time::Duration;

use redial_core::protocol::task::{Effect, Retry};
use redial_core::{Reason, UnixMs};

use super::backoff::backoff;
use super::rate_headers;
use super::retry_after::stated_wait;
use crate::http::types::{AttemptResult, Failure};
use crate::queue::clock::millis;

/// What an attempt means for its task.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It succeeded.
    Complete,
    /// Retry after `wait`.
    Retry {
        /// The wait including jitter; never less than the upstream asked for.
        wait: Duration,
        /// The backoff that it contains, for decorrelated jitter.
        backoff: Duration,
        /// Whether the attempt counts against `max_attempts`.
        counts: bool,
        /// What went wrong.
        error: String,
    },
    /// No further attempt.
    Dead {
        /// Why.
        reason: Reason,
        /// What went wrong.
        error: String,
    },
}

/// Everything that the decision depends on besides the attempt itself.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The task's retry settings.
    pub retry: &'a Retry,
    /// Whether the call may be repeated.
    pub effect: Effect,
    /// Whether a 409 is worth a retry at this upstream.
    pub retry_conflict: bool,
    /// How many earlier attempts counted.
    pub counted: u32,
    /// How many earlier attempts did not count.
    pub free_waits: u32,
    /// How many attempts may go uncounted.
    pub max_free_waits: u32,
    /// Whether the attempt was a breaker's probe: then its failure does not count.
    pub is_probe: bool,
    /// The previous backoff.
    pub previous: Duration,
    /// The longest wait that an upstream may ask for.
    pub max_stated_wait: Duration,
    /// The current time.
    pub now: UnixMs,
    /// The time after which no attempt starts.
    pub deadline: Option<UnixMs>,
    /// A random number in 0..1.
    pub random: f64,
}

/// Statuses after which the same call may succeed. 529 is Anthropic's "overloaded"; 501 and 505 are permanent.
const TRANSIENT: [u16; 8] = [408, 425, 429, 500, 502, 503, 504, 529];

/// Whether the official SDKs of this upstream retry a 409 (lock timeout).
pub fn is_conflict_transient(host: Option<&str>) -> bool {
    matches!(host, Some("api.openai.com" | "api.anthropic.com"))
}

/// Whether an attempt shows that the upstream is up (`true`) or down (`false`); `None` if it shows neither.
pub fn is_up(result: &AttemptResult) -> Option<bool> {
    match result {
        Ok(response) => Some(response.status < 500 || !TRANSIENT.contains(&response.status)),
        Err(Failure::ResponseTooLarge(_)) => Some(true),
        Err(Failure::ForbiddenTarget(_) | Failure::LocalShortage(_) | Failure::ConnectionSilent) => None,
        Err(_) => Some(false),
    }
}

/// The table.
///
/// | the attempt | means |
/// | --- | --- |
/// | 2xx | complete |
/// | [`TRANSIENT`], `retry.on`, 409 where it is transient | retry |
/// | no response, an incomplete response, not HTTP | retry |
/// | any other status | dead, `rejected` |
/// | forbidden target, response too large | dead, `forbidden_target`, `too_large` |
///
/// `x-should-retry: true` or `false` in the response overrides the status. A task with `effect: "once"` is only retried if the
/// upstream certainly did not act; otherwise it is dead with `outcome_unknown`.
pub fn classify(result: &AttemptResult, policy: &Policy) -> Outcome {
    let error = match result {
        Ok(response) if (200..300).contains(&response.status) => return Outcome::Complete,
        Ok(response) => format!("status {}", response.status),
        Err(failure) => failure.to_string(),
    };
    if let Some(reason) = final_reason(result, policy) {
        return Outcome::Dead { reason, error };
    }
    if policy.effect == Effect::Once && !certainly_not_carried_out(result) {
        let error = format!("{error}; the upstream may have acted, and effect \"once\" forbids a second call");
        return Outcome::Dead { reason: Reason::OutcomeUnknown, error };
    }
    retry(result, policy, error)
}

/// Why no later attempt could succeed either, if so.
fn final_reason(result: &AttemptResult, policy: &Policy) -> Option<Reason> {
    match result {
        Err(Failure::ForbiddenTarget(_)) => Some(Reason::ForbiddenTarget),
        Err(Failure::ResponseTooLarge(_)) => Some(Reason::TooLarge),
        Err(_) => None,
        Ok(response) => {
            let by_status = TRANSIENT.contains(&response.status)
                || policy.retry.on.contains(&response.status)
                || (response.status == 409 && policy.retry_conflict);
            let is_transient = match response.headers.get("x-should-retry").map(http::HeaderValue::as_bytes) {
                Some(b"true") => true,
                Some(b"false") => false,
                _ => by_status,
            };
            (!is_transient).then_some(Reason::Rejected)
        }
    }
}

/// Whether the upstream did nothing: no connection was established, or it answered 429, or 503 with a time to come back.
fn certainly_not_carried_out(result: &AttemptResult) -> bool {
    match result {
        Err(failure) => failure.is_before_sending(),
        Ok(response) => match response.status {
            429 => true,
            503 => response.headers.contains_key(http::header::RETRY_AFTER),
            _ => false,
        },
    }
}

fn retry(result: &AttemptResult, policy: &Policy, error: String) -> Outcome {
    let stated = result.as_ref().ok().and_then(|response| {
        let until_reset =
            || rate_headers::parse(&response.headers, policy.now).exhausted_for.filter(|_| response.status == 429);
        stated_wait(&response.headers, policy.now).or_else(until_reset)
    });
    if let Some(stated) = stated.filter(|stated| *stated > policy.max_stated_wait) {
        let error =
            format!("{error}; the upstream asks to wait {} s, more than max_stated_wait_ms allows", stated.as_secs());
        return Outcome::Dead { reason: Reason::AttemptsExhausted, error };
    }
    let asked_to_wait = stated.is_some() && result.as_ref().is_ok_and(|response| response.status == 429);
    let counts = !(asked_to_wait || policy.is_probe) || policy.free_waits >= policy.max_free_waits;
    let failures = policy.counted + u32::from(counts);
    if counts && failures >= policy.retry.max_attempts {
        return Outcome::Dead { reason: Reason::AttemptsExhausted, error };
    }
    let backoff = backoff(policy.retry, failures.max(1), policy.previous, policy.random);
    // Up to a fifth more than the upstream asked for, never less: workers that got the same answer must not return together.
    let wait = backoff.max(stated.unwrap_or_default().mul_f64(1.0 + 0.2 * policy.random));
    if policy.deadline.is_some_and(|deadline| policy.now.plus(millis(wait)) >= deadline) {
        let error = format!("{error}; the task expires before the next attempt could start");
        return Outcome::Dead { reason: Reason::Expired, error };
    }
    Outcome::Retry { wait, backoff, counts, error }
}

#[cfg(test)]
mod tests;
