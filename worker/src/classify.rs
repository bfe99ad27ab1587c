//! What an attempt means: one table, one pure function. Time and randomness are inputs.

use std::time::Duration;

use redial_core::protocol::task::{Effect, Retry};
use redial_core::{Reason, UnixMs};

use crate::backoff::backoff;
use crate::call::{Called, Failure};
use crate::rate_headers;
use crate::retry_after::stated_wait;

/// What an attempt means for its task.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A good answer.
    Complete,
    /// Try again after `wait`.
    Again {
        /// The wait, jitter included; never less than what the upstream stated.
        wait: Duration,
        /// The backoff in it, for decorrelated jitter.
        backoff: Duration,
        /// Whether the attempt counts against `max_attempts`.
        counts: bool,
        /// What was wrong.
        error: String,
    },
    /// No further attempt.
    Dead {
        /// Why.
        reason: Reason,
        /// What was wrong.
        error: String,
    },
}

/// All that the decision depends on, but for the attempt itself.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The task's.
    pub retry: &'a Retry,
    /// Whether the call may be made twice.
    pub effect: Effect,
    /// Whether the upstream is known to want 409 repeated.
    pub retry_conflict: bool,
    /// Attempts that counted, before this one.
    pub counted: u32,
    /// Attempts that did not count, before this one.
    pub free_waits: u32,
    /// How many of those there may be.
    pub max_free_waits: u32,
    /// Whether it went to see whether its upstream is back: then its failure does not count.
    pub is_probe: bool,
    /// The last backoff.
    pub previous: Duration,
    /// The longest wait an upstream may state.
    pub max_stated_wait: Duration,
    /// Now.
    pub now: UnixMs,
    /// The moment after which no attempt starts.
    pub deadline: Option<UnixMs>,
    /// Anything from 0 to 1.
    pub random: f64,
}

/// Statuses after which the same call may well succeed. 529 is Anthropic's "overloaded"; 501 and 505 never heal.
const TRANSIENT: [u16; 8] = [408, 425, 429, 500, 502, 503, 504, 529];

/// Upstreams whose official SDKs repeat a 409 (lock timeout).
pub fn retries_conflict(host: Option<&str>) -> bool {
    matches!(host, Some("api.openai.com" | "api.anthropic.com"))
}

/// Whether a call shows that the upstream is up, or that it is down; `None` when it shows neither.
pub fn is_up(called: &Called) -> Option<bool> {
    match called {
        Ok(answer) => Some(answer.status < 500 || !TRANSIENT.contains(&answer.status)),
        Err(Failure::AnswerTooLarge(_)) => Some(true),
        Err(Failure::ForbiddenTarget(_)) => None,
        Err(_) => Some(false),
    }
}

/// The table.
///
/// | the attempt | means |
/// | --- | --- |
/// | 2xx | complete |
/// | [`TRANSIENT`], `retry.on`, 409 where the upstream wants it | again |
/// | no answer, half an answer, no HTTP | again |
/// | any other status | dead, `rejected` |
/// | refused target, answer too large | dead, `forbidden_target`, `too_large` |
///
/// `x-should-retry: true` or `false` in the answer goes before the status. A task with `effect: "once"` is only tried again
/// when it is certain that the upstream did not act; otherwise it is dead with `outcome_unknown`.
pub fn classify(called: &Called, policy: &Policy) -> Outcome {
    let error = match called {
        Ok(answer) if (200..300).contains(&answer.status) => return Outcome::Complete,
        Ok(answer) => format!("status {}", answer.status),
        Err(failure) => failure.to_string(),
    };
    if let Some(reason) = final_reason(called, policy) {
        return Outcome::Dead { reason, error };
    }
    if policy.effect == Effect::Once && !certainly_not_carried_out(called) {
        let error = format!("{error}; the upstream may have acted, and effect \"once\" forbids a second call");
        return Outcome::Dead { reason: Reason::OutcomeUnknown, error };
    }
    again(called, policy, error)
}

/// The reason if no later attempt could do better.
fn final_reason(called: &Called, policy: &Policy) -> Option<Reason> {
    match called {
        Err(Failure::ForbiddenTarget(_)) => Some(Reason::ForbiddenTarget),
        Err(Failure::AnswerTooLarge(_)) => Some(Reason::TooLarge),
        Err(_) => None,
        Ok(answer) => {
            let by_status = TRANSIENT.contains(&answer.status)
                || policy.retry.on.contains(&answer.status)
                || (answer.status == 409 && policy.retry_conflict);
            let told = answer.headers.get("x-should-retry").map(http::HeaderValue::as_bytes);
            let repeat = match told {
                Some(b"true") => true,
                Some(b"false") => false,
                _ => by_status,
            };
            (!repeat).then_some(Reason::Rejected)
        }
    }
}

/// A connection that never stood, a 429, a 503 that says when to come back: nothing has happened at the upstream.
fn certainly_not_carried_out(called: &Called) -> bool {
    match called {
        Err(failure) => failure.before_sending(),
        Ok(answer) => match answer.status {
            429 => true,
            503 => answer.headers.contains_key(http::header::RETRY_AFTER),
            _ => false,
        },
    }
}

fn again(called: &Called, policy: &Policy, error: String) -> Outcome {
    let stated = called.as_ref().ok().and_then(|answer| {
        let until_reset = || rate_headers::heard(&answer.headers, policy.now).closed.filter(|_| answer.status == 429);
        stated_wait(&answer.headers, policy.now).or_else(until_reset)
    });
    if let Some(stated) = stated.filter(|stated| *stated > policy.max_stated_wait) {
        let error =
            format!("{error}; the upstream asks to wait {} s, more than max_stated_wait_ms allows", stated.as_secs());
        return Outcome::Dead { reason: Reason::AttemptsExhausted, error };
    }
    let refused_politely = stated.is_some() && called.as_ref().is_ok_and(|answer| answer.status == 429);
    let counts = !(refused_politely || policy.is_probe) || policy.free_waits >= policy.max_free_waits;
    let failures = policy.counted + u32::from(counts);
    if counts && failures >= policy.retry.max_attempts {
        return Outcome::Dead { reason: Reason::AttemptsExhausted, error };
    }
    let backoff = backoff(policy.retry, failures.max(1), policy.previous, policy.random);
    // Up to a fifth more than was stated, never less: a fleet told the same must not come back as one.
    let wait = backoff.max(stated.unwrap_or_default().mul_f64(1.0 + 0.2 * policy.random));
    if policy.deadline.is_some_and(|deadline| policy.now.plus(crate::clock::ms(wait)) >= deadline) {
        let error = format!("{error}; the task expires before the next attempt could start");
        return Outcome::Dead { reason: Reason::Expired, error };
    }
    Outcome::Again { wait, backoff, counts, error }
}

#[cfg(test)]
mod tests;
