use std::sync::LazyLock;

use super::*;
use crate::http::presets::Presets;
use crate::http::types::Redirection;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use redial_core::protocol::task::Jitter;

static GENERIC: LazyLock<Preset> =
    LazyLock::new(|| Presets::built_in().map(|presets| presets.for_host(None).clone()).unwrap_or_default());

fn retry(max_attempts: u32) -> Retry {
    Retry {
        max_attempts,
        base: Duration::from_millis(500),
        cap: Duration::from_secs(60),
        jitter: Jitter::Full,
        on: vec![418],
    }
}

fn policy(retry: &Retry) -> Policy<'_> {
    Policy {
        retry,
        effect: Effect::Idempotent,
        preset: &GENERIC,
        judgement: &Judgement::ByStatus,
        has_key: false,
        counted: 0,
        free_waits: 0,
        max_free_waits: 2,
        is_probe: false,
        previous: Duration::ZERO,
        max_stated_wait: Duration::from_secs(3600),
        now: UnixMs(1_000_000),
        deadline: None,
        random: 0.5,
    }
}

#[expect(clippy::unnecessary_wraps)] // the type that `classify` takes
fn response(status: u16, headers: &[(&'static str, &'static str)]) -> AttemptResult {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Ok(Response { status, headers: headers.collect(), body: vec![], redirection: Redirection::default() })
}

fn meaning(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Retry { counts: true, .. } => "retry",
        Outcome::Retry { counts: false, .. } => "retry, uncounted",
        Outcome::Dead { reason, .. } => reason.as_str(),
    }
}

fn means(result: &AttemptResult, policy: &Policy) -> &'static str {
    meaning(&classify(result, policy))
}

#[test]
fn every_status_and_failure_has_its_outcome() {
    let retry = retry(5);
    let policy = policy(&retry);
    for (status, expected) in [
        (200, "complete"),
        (204, "complete"),
        (299, "complete"),
        (301, "rejected"),
        (304, "rejected"),
        (400, "rejected"),
        (401, "rejected"),
        (404, "rejected"),
        (409, "rejected"),
        (422, "rejected"),
        (408, "retry"),
        (425, "retry"),
        (429, "retry"),
        (418, "retry"),
        (500, "retry"),
        (502, "retry"),
        (503, "retry"),
        (504, "retry"),
        (529, "retry"),
        (501, "rejected"),
        (505, "rejected"),
    ] {
        assert_eq!(means(&response(status, &[]), &policy), expected, "{status}");
    }
    for (failure, expected) in [
        (Failure::Refused, "retry"),
        (Failure::Dns("x".into()), "retry"),
        (Failure::ConnectTimeout, "retry"),
        (Failure::Connect("x".into()), "retry"),
        (Failure::Tls("x".into()), "retry"),
        (Failure::Timeout, "retry"),
        (Failure::Reset, "retry"),
        (Failure::Truncated("x".into()), "retry"),
        (Failure::NotHttp("x".into()), "retry"),
        (Failure::Other("x".into()), "retry"),
        (Failure::ForbiddenTarget("x".into()), "forbidden_target"),
        (Failure::ResponseTooLarge(5), "too_large"),
    ] {
        assert_eq!(means(&Err(failure.clone()), &policy), expected, "{failure:?}");
    }
}

#[test]
fn x_should_retry_overrides_the_status() {
    let retry = retry(5);
    let policy = policy(&retry);
    assert_eq!(means(&response(503, &[("x-should-retry", "false")]), &policy), "rejected");
    assert_eq!(means(&response(400, &[("x-should-retry", "true")]), &policy), "retry");
    assert_eq!(means(&response(503, &[("x-should-retry", "maybe")]), &policy), "retry");
    assert_eq!(means(&response(409, &[]), &Policy { has_key: true, ..policy }), "retry");
}

#[test]
fn a_call_with_effect_once_is_retried_only_if_nothing_can_have_happened() {
    let retry = retry(5);
    let once = Policy { effect: Effect::Once, ..policy(&retry) };
    for (result, expected) in [
        (Err(Failure::Refused), "retry"),
        (Err(Failure::Dns("x".into())), "retry"),
        (Err(Failure::ConnectTimeout), "retry"),
        (Err(Failure::Tls("x".into())), "retry"),
        (response(429, &[]), "retry"),
        (response(429, &[("retry-after", "1")]), "retry, uncounted"),
        (response(503, &[("retry-after", "1")]), "retry"),
        (response(503, &[]), "outcome_unknown"),
        (response(500, &[("retry-after", "1")]), "outcome_unknown"),
        (response(503, &[("x-should-retry", "true")]), "outcome_unknown"),
        (Err(Failure::Timeout), "outcome_unknown"),
        (Err(Failure::Reset), "outcome_unknown"),
        (Err(Failure::Truncated("x".into())), "outcome_unknown"),
        (response(403, &[("retry-after", "1")]), "retry, uncounted"),
        (response(413, &[("retry-after", "1")]), "retry, uncounted"),
        (response(520, &[("retry-after", "1")]), "outcome_unknown"),
        (response(400, &[]), "rejected"),
        (response(200, &[]), "complete"),
    ] {
        assert_eq!(means(&result, &once), expected, "{result:?}");
    }
}

#[test]
fn attempts_are_limited_and_requests_to_wait_go_uncounted_up_to_a_limit() {
    let retry = retry(3);
    let policy = policy(&retry);
    assert_eq!(means(&response(503, &[]), &Policy { counted: 1, ..policy }), "retry");
    assert_eq!(means(&response(503, &[]), &Policy { counted: 2, ..policy }), "attempts_exhausted");
    let asked_to_wait = response(429, &[("retry-after", "2")]);
    assert_eq!(means(&asked_to_wait, &Policy { counted: 2, free_waits: 1, ..policy }), "retry, uncounted");
    assert_eq!(means(&asked_to_wait, &Policy { counted: 2, free_waits: 2, ..policy }), "attempts_exhausted");
    let probe = Policy { counted: 2, free_waits: 1, is_probe: true, ..policy };
    assert_eq!(means(&response(503, &[]), &probe), "retry, uncounted");
    assert_eq!(means(&response(503, &[]), &Policy { free_waits: 2, ..probe }), "attempts_exhausted");
}

#[test]
fn failures_show_that_an_upstream_is_down_and_every_other_response_that_it_is_up() {
    for (result, expected) in [
        (response(200, &[]), Some(true)),
        (response(404, &[]), Some(true)),
        (response(429, &[]), Some(true)),
        (response(501, &[]), Some(true)),
        (response(503, &[]), Some(false)),
        (response(529, &[]), Some(false)),
        (Err(Failure::Refused), Some(false)),
        (Err(Failure::Timeout), Some(false)),
        (Err(Failure::ResponseTooLarge(9)), Some(true)),
        (Err(Failure::ForbiddenTarget("x".into())), None),
    ] {
        assert_eq!(is_up(&result, &GENERIC), expected, "{result:?}");
    }
}

#[test]
fn a_wait_beyond_the_limit_or_the_deadline_ends_the_task() {
    let retry = retry(5);
    let policy = policy(&retry);
    let long = classify(&response(503, &[("retry-after", "7200")]), &policy);
    assert!(
        matches!(&long, Outcome::Dead { reason: Reason::AttemptsExhausted, error } if error.contains("7200 s")),
        "{long:?}"
    );
    let soon = Policy { deadline: Some(UnixMs(1_001_000)), ..policy };
    assert_eq!(means(&response(503, &[("retry-after", "1")]), &soon), "expired");
    assert_eq!(means(&response(503, &[]), &soon), "retry");
}

proptest! {
    #[test]
    fn no_wait_is_shorter_than_the_upstream_asked_for(
        stated in 0_u32..3_600, random in 0.0..1.0_f64, counted in 0_u32..4, status in prop::sample::select(vec![429_u16, 503, 500]),
    ) {
        let retry = retry(5);
        let policy = Policy { counted, random, ..policy(&retry) };
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from(stated));
        match classify(&Ok(Response { status, headers, body: vec![], redirection: Redirection::default() }), &policy) {
            Outcome::Retry { wait, .. } => prop_assert!(wait >= Duration::from_secs(stated.into())),
            Outcome::Dead { reason, .. } => prop_assert_eq!(reason, Reason::AttemptsExhausted),
            Outcome::Complete => prop_assert!(false, "complete"),
        }
    }
}

#[test]
fn what_comes_of_a_redirect_or_of_a_refused_stream_does_not_show_that_the_upstream_is_down() {
    let redirected = |failure| Err(Failure::Redirected { failure: Box::new(failure), has_acted: false });
    let after_redirect = Redirection { followed: 1, ..Redirection::default() };
    let answer = Response { status: 503, headers: HeaderMap::new(), body: vec![], redirection: after_redirect };
    assert_eq!(is_up(&Ok(answer), &GENERIC), Some(true));
    assert_eq!(is_up(&redirected(Failure::Refused), &GENERIC), Some(true));
    assert_eq!(is_up(&Err(Failure::NotProcessed("REFUSED_STREAM".into())), &GENERIC), None);
}

#[test]
fn only_what_certainly_had_no_effect_is_repeated_after_a_redirect() {
    let retry = retry(3);
    let policy = Policy { effect: Effect::Once, ..policy(&retry) };
    for (failure, has_acted, repeats) in [
        (Failure::Refused, false, true),
        (Failure::Refused, true, false),
        (Failure::Reset, false, false),
        (Failure::NotProcessed(String::new()), false, true),
        (Failure::NotProcessed(String::new()), true, false),
    ] {
        let failed = Err(Failure::Redirected { failure: Box::new(failure.clone()), has_acted });
        let outcome = classify(&failed, &policy);
        assert_eq!(matches!(outcome, Outcome::Retry { .. }), repeats, "{failure:?} {has_acted}: {outcome:?}");
    }
    let redirection = Redirection { followed: 1, has_acted: true, ..Redirection::default() };
    let limited = Ok(Response { status: 429, headers: HeaderMap::new(), body: vec![], redirection });
    assert!(matches!(classify(&limited, &policy), Outcome::Dead { reason: Reason::OutcomeUnknown, .. }));
}
