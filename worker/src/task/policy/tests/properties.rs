//! What holds for every response.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::super::advice::Advice;
use super::super::classify::Outcome;
use super::{BACKOFF, BOUND, NOW, meaning, outcome, preset};
use crate::http::types::{Redirection, Response};

const HOSTS: [&str; 4] =
    ["service.example.com", "api.openai.com", "generativelanguage.googleapis.com", "openrouter.ai"];
const NAMES: [&str; 9] = [
    "retry-after",
    "retry-after-ms",
    "ratelimit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-tokens",
    "x-should-retry",
];
const STATUSES: [u16; 8] = [200, 400, 403, 413, 429, 500, 503, 530];

/// Text that is nearly a wait more often than chance has it.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        "-?[0-9]{0,20}(\\.[0-9]{0,4})?(ms|s|m|h)?",
        "(P|PT|P1DT)[0-9.,]{0,6}[HMSDWT]?[0-9]{0,3}S?",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{0,9}(Z|[+-][0-9:]{0,5})?",
        "(Fri, )?[0-9]{1,2} Jan 20[0-9]{2} [0-9]{2}:00:[0-9]{2} (GMT|UTC|[+-][0-9]{0,5})",
        "\"?[a-z]{0,3}\"?;r=[0-9-]{0,3};t=[0-9.]{0,12}",
    ]
}

fn response(status: u16, lines: &[(&'static str, String)], body: &str) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    Response { status, headers, body: body.as_bytes().to_vec(), redirection: Redirection::default() }
}

proptest! {
    #[test]
    fn no_header_value_causes_a_panic_and_no_wait_exceeds_the_bound(
        host in prop::sample::select(&HOSTS[..]),
        status in prop::sample::select(&STATUSES[..]),
        lines in prop::collection::vec((prop::sample::select(&NAMES[..]), value()), 0..5),
    ) {
        let response = response(status, &lines, "");
        meaning(&response, preset(host));
        let advice = Advice::read(&response, preset(host), NOW, BOUND);
        prop_assert!(advice.wait.is_none_or(|wait| !wait.is_zero()));
        prop_assert!(advice.limits.exhausted_for.is_none_or(|wait| !wait.is_zero() && wait <= BOUND));
        if let Outcome::Retry { wait, .. } = outcome(&response, preset(host)) {
            prop_assert!(BACKOFF <= wait && wait <= BOUND, "{wait:?}");
        }
    }

    #[test]
    fn no_text_of_a_body_causes_a_panic(
        host in prop::sample::select(&HOSTS[..]),
        phrase in prop::sample::select(&["try again in", "retry in", "RETRY AFTER", ""][..]),
        text in "\\PC{0,30}",
        wait in value(),
    ) {
        let message = format!("{phrase}{text} {phrase} {wait}{text}");
        let delay = format!("{wait}{text}");
        let body = serde_json::json!({"error": {
            "message": message,
            "details": [{"retryDelay": delay}],
            "metadata": {"headers": {"X-RateLimit-Reset": wait}},
        }});
        meaning(&response(429, &[], &body.to_string()), preset(host));
    }

    #[test]
    fn no_call_is_earlier_than_a_wait_in_any_spelling(ms in 1_u64..=3_600_000) {
        let wait = Duration::from_millis(ms);
        let seconds = wait.as_secs_f64();
        let epoch_ms = NOW.0 + ms;
        let whole = ms.div_ceil(1_000);
        let at = std::time::UNIX_EPOCH + Duration::from_millis(NOW.0 / 1_000 * 1_000) + Duration::from_secs(whole);
        for (name, value) in [
            ("retry-after", format!("{seconds}")),
            ("retry-after-ms", format!("{ms}")),
            ("retry-after", format!("{ms}ms")),
            ("retry-after", format!("{seconds}s")),
            ("retry-after", format!("PT{seconds}S")),
            ("retry-after", format!("{epoch_ms}")),
            ("retry-after", httpdate::fmt_http_date(at)),
            ("retry-after", format!("1, {seconds}")),
        ] {
            let response = response(429, &[(name, value.clone())], "");
            match outcome(&response, preset("service.example.com")) {
                Outcome::Retry { wait: found, counts, .. } => {
                    prop_assert!(found >= wait, "{value}: {found:?} for {wait:?}");
                    prop_assert!(found <= wait.max(BACKOFF) + Duration::from_secs(1), "{value}: {found:?} for {wait:?}");
                    prop_assert!(!counts, "{value}");
                }
                // Rounded up to whole seconds it is at most the bound.
                other => prop_assert!(false, "{value}: {other:?}"),
            }
        }
    }
}
