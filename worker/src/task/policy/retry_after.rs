//! The wait that a response asks for, in every common spelling. Pure: the time is an argument.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, header::RETRY_AFTER};
use redial_core::UnixMs;

/// The wait that the response asks for, or `None` if it asks for none or cannot be understood. Tried in the order of the official
/// SDKs of OpenAI and Anthropic: `retry-after-ms`, `Retry-After` in seconds (fractions allowed), `Retry-After` as an HTTP date
/// (RFC 9110 §10.2.3). A negative wait is ignored; one that overflows becomes [`Duration::MAX`].
pub fn stated_wait(headers: &HeaderMap, now: UnixMs) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str, unit: f64| {
        text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).map(|n| seconds(n * unit))
    };
    if let Some(wait) = text("retry-after-ms").and_then(|text| number(text, 0.001)) {
        return Some(wait);
    }
    let text = text(RETRY_AFTER.as_str())?;
    number(text, 1.0).or_else(|| {
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        at.checked_sub(Duration::from_millis(now.0))
    })
}

fn seconds(n: f64) -> Duration {
    Duration::try_from_secs_f64(n).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
    const NOW: UnixMs = UnixMs(784_111_777_000);

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                map.insert(HeaderName::from_static(name), value);
            }
        }
        stated_wait(&map, NOW)
    }

    #[test]
    fn every_valid_spelling_is_understood_and_nothing_else() {
        let ms = Duration::from_millis;
        for (headers, expected) in [
            (&[("retry-after", "2")][..], Some(ms(2000))),
            (&[("retry-after", " 0.25 ")], Some(ms(250))),
            (&[("retry-after-ms", "1500.5"), ("retry-after", "9")], Some(Duration::from_micros(1_500_500))),
            (&[("retry-after-ms", "soon"), ("retry-after", "9")], Some(ms(9000))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(ms(30_000))),
            (&[("retry-after", "Sunday, 06-Nov-94 08:50:07 GMT")], Some(ms(30_000))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], None),
            (&[("retry-after", "0")], Some(Duration::ZERO)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "tomorrow")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "1e300")], Some(Duration::MAX)),
            (&[], None),
        ] {
            assert_eq!(wait(headers), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_value_causes_a_panic(value in "[ -~]{0,40}") {
            wait(&[("retry-after", &value), ("retry-after-ms", &value)]);
        }
    }
}
