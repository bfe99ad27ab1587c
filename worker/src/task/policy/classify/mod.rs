//! What an attempt means: one table, one pure function. Time and randomness are arguments.

use std::time::Duration;

use redial_core::protocol::task::{Effect, Retry};
use redial_core::{Reason, UnixMs};

use super::advice::Advice;
use super::backoff::backoff;
use super::judge::Judgement;
use crate::http::presets::Preset;
use crate::http::types::{AttemptResult, Failure, Response};
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
    /// What is known about the upstream's API.
    pub preset: &'a Preset,
    /// What the response is besides its status.
    pub judgement: &'a Judgement,
    /// Whether the call has an idempotency key: then a 409 says that the first call with it is still running.
    pub has_key: bool,
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

/// Statuses below 500 after which the same call may succeed.
const TRANSIENT: [u16; 3] = [408, 425, 429];
/// Statuses from 500 on that are permanent: what was asked for is not implemented, the version of HTTP is not supported.
const PERMANENT: [u16; 2] = [501, 505];

/// Whether a status says that the upstream fails. Proxies have statuses of their own there: 520 to 527 and 530 are Cloudflare's, 529 is
/// Anthropic's "overloaded".
fn is_failing(status: u16, preset: &Preset) -> bool {
    status >= 500 && !PERMANENT.contains(&status) && !preset.final_statuses.contains(&status)
}

/// Whether an attempt shows that the upstream is up (`true`) or down (`false`); `None` if it shows neither.
pub fn is_up(result: &AttemptResult, preset: &Preset) -> Option<bool> {
    match result {
        // It answered with a redirect; what that leads to says nothing about it.
        Ok(response) if response.redirection.followed > 0 => Some(true),
        Ok(response) => Some(!is_failing(response.status, preset)),
        Err(Failure::ResponseTooLarge(_) | Failure::Redirected { .. }) => Some(true),
        Err(
            Failure::ForbiddenTarget(_)
            | Failure::LocalShortage(_)
            | Failure::MemorySpent
            | Failure::ConnectionSilent
            | Failure::NotProcessed(_),
        ) => None,
        Err(_) => Some(false),
    }
}

/// The table.
///
/// | the attempt | means |
/// | --- | --- |
/// | `retry_when` holds, or a stream of events contains an error | retry |
/// | `ok_when` holds | complete |
/// | 2xx for which `ok_when` does not hold | dead, `rejected`; retry if the body is not JSON |
/// | 2xx | complete |
/// | an error code of the preset's `final_codes` | dead, `rejected` |
/// | [`TRANSIENT`], from 500 on but [`PERMANENT`], `retry.on`, the preset's `retry_statuses`, 409 with an idempotency key | retry |
/// | 402, 403, 413 with a wait, or with a limit that is exhausted until a time | retry |
/// | no response, an incomplete response, not HTTP | retry |
/// | any other status, the preset's `final_statuses` | dead, `rejected` |
/// | forbidden target, response too large | dead, `forbidden_target`, `too_large` |
///
/// `x-should-retry` or `Stripe-Should-Retry` in the response overrides the status. A task with `effect: "once"` is only retried if the
/// upstream certainly did not act; otherwise it is dead with `outcome_unknown`.
pub fn classify(result: &AttemptResult, policy: &Policy) -> Outcome {
    let (error, advice) = match result {
        Ok(response) => {
            let error = match (policy.judgement, &response.redirection.refused) {
                (Judgement::Good, _) => return Outcome::Complete,
                (Judgement::ByStatus, _) if (200..300).contains(&response.status) => return Outcome::Complete,
                (Judgement::Bad(why), _) => {
                    let error = format!("status {}; {why}", response.status);
                    return Outcome::Dead { reason: Reason::Rejected, error };
                }
                (Judgement::Retry { why, .. }, _) => format!("status {}; {why}", response.status),
                (Judgement::ByStatus, Some(why)) => format!("status {}; not followed: {why}", response.status),
                (Judgement::ByStatus, None) => format!("status {}", response.status),
            };
            let (judgement, preset) = (policy.judgement, policy.preset);
            (error, Advice::read_judged(response, judgement, preset, policy.now, policy.max_stated_wait))
        }
        Err(failure) => (failure.to_string(), Advice::default()),
    };
    let error = match &advice.ignored {
        Some(ignored) => format!("{error}; {ignored}"),
        None => error,
    };
    if let Some(reason) = final_reason(result, &advice, policy) {
        let error = match &advice.final_code {
            Some(code) => format!("{error}; no retry helps against the error code {code:?}"),
            None => error,
        };
        return Outcome::Dead { reason, error };
    }
    if policy.effect == Effect::Once && !certainly_not_carried_out(result, &advice) {
        let error = format!("{error}; the upstream may have acted, and effect \"once\" forbids a second call");
        return Outcome::Dead { reason: Reason::OutcomeUnknown, error };
    }
    retry(result, &advice, policy, error)
}

/// Why no later attempt could succeed either, if so.
fn final_reason(result: &AttemptResult, advice: &Advice, policy: &Policy) -> Option<Reason> {
    match result {
        Err(Failure::ForbiddenTarget(_)) => Some(Reason::ForbiddenTarget),
        Err(Failure::ResponseTooLarge(_)) => Some(Reason::TooLarge),
        Err(_) => None,
        Ok(_) if advice.final_code.is_some() => Some(Reason::Rejected),
        Ok(response) => {
            let is_transient = should_retry(response, policy.preset).unwrap_or_else(|| {
                let status = response.status;
                matches!(policy.judgement, Judgement::Retry { .. })
                    || policy.retry.on.contains(&status)
                    || !policy.preset.final_statuses.contains(&status)
                        && (TRANSIENT.contains(&status) || is_failing(status, policy.preset))
                    || policy.preset.retry_statuses.contains(&status)
                    || (status == 409 && policy.has_key)
                    || advice.refused_for(status).is_some()
            });
            (!is_transient).then_some(Reason::Rejected)
        }
    }
}

/// What the upstream says explicitly.
fn should_retry(response: &Response, preset: &Preset) -> Option<bool> {
    let mut values = preset.should_retry_headers.iter().filter_map(|name| response.headers.get(name));
    values.find_map(|value| match value.as_bytes().trim_ascii() {
        text if text.eq_ignore_ascii_case(b"true") => Some(true),
        text if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    })
}

/// Whether the upstream did nothing: no connection was established, or it refused the call for now (429; 402, 403, 413, 503 with a time to
/// come back).
fn certainly_not_carried_out(result: &AttemptResult, advice: &Advice) -> bool {
    match result {
        Err(failure) => failure.is_without_effect(),
        Ok(response) if response.redirection.has_acted => false,
        Ok(response) => match response.status {
            429 => true,
            503 => response.headers.contains_key(http::header::RETRY_AFTER),
            status => advice.refused_for(status).is_some(),
        },
    }
}

fn retry(result: &AttemptResult, advice: &Advice, policy: &Policy, error: String) -> Outcome {
    let refused_for = result.as_ref().ok().and_then(|response| match policy.judgement {
        // With a good status, the limit that the error is about.
        Judgement::Retry { .. } if (200..300).contains(&response.status) => advice.wait.or(advice.limits.exhausted_for),
        _ => advice.refused_for(response.status),
    });
    let stated = refused_for.or(advice.wait);
    if let Some(stated) = stated.filter(|stated| *stated > policy.max_stated_wait) {
        let error =
            format!("{error}; the upstream asks to wait {} s, more than max_stated_wait_ms allows", stated.as_secs());
        return Outcome::Dead { reason: Reason::AttemptsExhausted, error };
    }
    let is_free = refused_for.is_some() || policy.is_probe || matches!(result, Err(Failure::MemorySpent));
    let counts = !is_free || policy.free_waits >= policy.max_free_waits;
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
