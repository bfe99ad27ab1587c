//! The field `RateLimit` of draft-ietf-httpapi-ratelimit-headers, in the forms of its versions.
//!
//! - From version 08 on, a list of structured fields: `"default";r=50;t=30`.
//! - Version 07, a dictionary: `limit=100, remaining=50, reset=5`.
//!
//! Up to version 06 there were fields of their own, `RateLimit-Remaining` and `RateLimit-Reset`, which the generic preset names.
//! A positive remaining number promises nothing and is not read; the number 0 closes.

use http::HeaderMap;

/// The resets, in seconds, of the limits that are exhausted.
pub(super) fn exhausted(headers: &HeaderMap) -> Vec<&str> {
    let mut resets = Vec::new();
    let (mut remaining, mut reset) = (None, None);
    for value in headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok()) {
        for item in split(value, ',') {
            let parameter = |name: &str| {
                let mut parts = split(item, ';').into_iter().map(str::trim);
                parts.find_map(|part| part.strip_prefix(name)?.trim_start().strip_prefix('=').map(str::trim))
            };
            if parameter("r").is_some_and(is_zero) {
                resets.extend(parameter("t"));
            }
            remaining = parameter("remaining").or(remaining);
            reset = parameter("reset").or(reset);
        }
    }
    if remaining.is_some_and(is_zero) {
        resets.extend(reset);
    }
    resets
}

fn is_zero(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|number| (0.0..1.0).contains(&number))
}

/// The parts of a text at a separator outside quotation marks.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_end = |c: char| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match c {
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    };
    text.split(is_end).collect()
}
