use super::*;
use crate::call::Answer;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use redial_core::protocol::task::Jitter;

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
        retry_conflict: false,
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
fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Called {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Ok(Answer { status, headers: headers.collect(), body: vec![] })
}

fn meaning(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Again { counts: true, .. } => "again",
        Outcome::Again { counts: false, .. } => "again, free",
        Outcome::Dead { reason, .. } => reason.as_str(),
    }
}

fn means(called: &Called, policy: &Policy) -> &'static str {
    meaning(&classify(called, policy))
}

#[test]
fn the_table_stands() {
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
        (408, "again"),
        (425, "again"),
        (429, "again"),
        (418, "again"),
        (500, "again"),
        (502, "again"),
        (503, "again"),
        (504, "again"),
        (529, "again"),
        (501, "rejected"),
        (505, "rejected"),
    ] {
        assert_eq!(means(&answer(status, &[]), &policy), expected, "{status}");
    }
    for (failure, expected) in [
        (Failure::Refused, "again"),
        (Failure::Dns("x".into()), "again"),
        (Failure::ConnectTimeout, "again"),
        (Failure::Connect("x".into()), "again"),
        (Failure::Tls("x".into()), "again"),
        (Failure::Timeout, "again"),
        (Failure::Reset, "again"),
        (Failure::Truncated("x".into()), "again"),
        (Failure::NotHttp("x".into()), "again"),
        (Failure::Other("x".into()), "again"),
        (Failure::ForbiddenTarget("x".into()), "forbidden_target"),
        (Failure::AnswerTooLarge(5), "too_large"),
    ] {
        assert_eq!(means(&Err(failure.clone()), &policy), expected, "{failure:?}");
    }
}

#[test]
fn what_the_upstream_says_goes_before_the_status() {
    let retry = retry(5);
    let policy = policy(&retry);
    assert_eq!(means(&answer(503, &[("x-should-retry", "false")]), &policy), "rejected");
    assert_eq!(means(&answer(400, &[("x-should-retry", "true")]), &policy), "again");
    assert_eq!(means(&answer(503, &[("x-should-retry", "maybe")]), &policy), "again");
    assert_eq!(means(&answer(409, &[]), &Policy { retry_conflict: true, ..policy }), "again");
    assert!(retries_conflict(Some("api.openai.com")) && !retries_conflict(Some("api.openai.com.evil")));
}

#[test]
fn a_call_of_effect_once_is_repeated_only_when_nothing_can_have_happened() {
    let retry = retry(5);
    let once = Policy { effect: Effect::Once, ..policy(&retry) };
    for (called, expected) in [
        (Err(Failure::Refused), "again"),
        (Err(Failure::Dns("x".into())), "again"),
        (Err(Failure::ConnectTimeout), "again"),
        (Err(Failure::Tls("x".into())), "again"),
        (answer(429, &[]), "again"),
        (answer(429, &[("retry-after", "1")]), "again, free"),
        (answer(503, &[("retry-after", "1")]), "again"),
        (answer(503, &[]), "outcome_unknown"),
        (answer(500, &[("retry-after", "1")]), "outcome_unknown"),
        (answer(503, &[("x-should-retry", "true")]), "outcome_unknown"),
        (Err(Failure::Timeout), "outcome_unknown"),
        (Err(Failure::Reset), "outcome_unknown"),
        (Err(Failure::Truncated("x".into())), "outcome_unknown"),
        (answer(400, &[]), "rejected"),
        (answer(200, &[]), "complete"),
    ] {
        assert_eq!(means(&called, &once), expected, "{called:?}");
    }
}

#[test]
fn attempts_end_and_polite_refusals_are_free_up_to_a_bound() {
    let retry = retry(3);
    let policy = policy(&retry);
    assert_eq!(means(&answer(503, &[]), &Policy { counted: 1, ..policy }), "again");
    assert_eq!(means(&answer(503, &[]), &Policy { counted: 2, ..policy }), "attempts_exhausted");
    let polite = answer(429, &[("retry-after", "2")]);
    assert_eq!(means(&polite, &Policy { counted: 2, free_waits: 1, ..policy }), "again, free");
    assert_eq!(means(&polite, &Policy { counted: 2, free_waits: 2, ..policy }), "attempts_exhausted");
    let probe = Policy { counted: 2, free_waits: 1, is_probe: true, ..policy };
    assert_eq!(means(&answer(503, &[]), &probe), "again, free");
    assert_eq!(means(&answer(503, &[]), &Policy { free_waits: 2, ..probe }), "attempts_exhausted");
}

#[test]
fn failures_show_that_an_upstream_is_down_and_every_other_answer_that_it_is_up() {
    for (called, expected) in [
        (answer(200, &[]), Some(true)),
        (answer(404, &[]), Some(true)),
        (answer(429, &[]), Some(true)),
        (answer(501, &[]), Some(true)),
        (answer(503, &[]), Some(false)),
        (answer(529, &[]), Some(false)),
        (Err(Failure::Refused), Some(false)),
        (Err(Failure::Timeout), Some(false)),
        (Err(Failure::AnswerTooLarge(9)), Some(true)),
        (Err(Failure::ForbiddenTarget("x".into())), None),
    ] {
        assert_eq!(is_up(&called), expected, "{called:?}");
    }
}

#[test]
fn a_wait_beyond_the_bound_or_the_deadline_ends_the_task_instead() {
    let retry = retry(5);
    let policy = policy(&retry);
    let long = classify(&answer(503, &[("retry-after", "7200")]), &policy);
    assert!(
        matches!(&long, Outcome::Dead { reason: Reason::AttemptsExhausted, error } if error.contains("7200 s")),
        "{long:?}"
    );
    let soon = Policy { deadline: Some(UnixMs(1_001_000)), ..policy };
    assert_eq!(means(&answer(503, &[("retry-after", "1")]), &soon), "expired");
    assert_eq!(means(&answer(503, &[]), &soon), "again");
}

proptest! {
    #[test]
    fn no_wait_is_shorter_than_what_was_stated(
        stated in 0_u32..3_600, random in 0.0..1.0_f64, counted in 0_u32..4, status in prop::sample::select(vec![429_u16, 503, 500]),
    ) {
        let retry = retry(5);
        let policy = Policy { counted, random, ..policy(&retry) };
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from(stated));
        match classify(&Ok(Answer { status, headers, body: vec![] }), &policy) {
            Outcome::Again { wait, .. } => prop_assert!(wait >= Duration::from_secs(stated.into())),
            Outcome::Dead { reason, .. } => prop_assert_eq!(reason, Reason::AttemptsExhausted),
            Outcome::Complete => prop_assert!(false, "complete"),
        }
    }
}
