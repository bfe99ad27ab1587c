//! Stated waits, in every spelling.

use super::{ANY, Row};

const RETRY_AFTER: &str = "https://www.rfc-editor.org/rfc/rfc9110#field.retry-after";
const DATES: &str = "https://www.rfc-editor.org/rfc/rfc9110#http.date";
const LISTS: &str = "https://www.rfc-editor.org/rfc/rfc9110#section-5.3";
const MAIL_DATES: &str = "https://www.rfc-editor.org/rfc/rfc5322#section-3.3";
const RFC3339: &str = "https://www.rfc-editor.org/rfc/rfc3339";
const ISO_DURATIONS: &str = "https://www.rfc-editor.org/rfc/rfc3339#appendix-A";
const GO: &str = "https://pkg.go.dev/time#ParseDuration";
const OPENAI: &str = "https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // Seconds. A wait of 0 is ignored: the backoff grows, and the attempt counts.
    (RETRY_AFTER, ANY, 429, "retry-after: 2", "", "free 2000, close 2000"),
    (RETRY_AFTER, ANY, 503, "retry-after: 2", "", "retry 2000"),
    (RETRY_AFTER, ANY, 500, "retry-after: 2", "", "retry 2000"),
    (RETRY_AFTER, ANY, 429, "retry-after: 3600", "", "free 3600000, close 3600000"),
    (RETRY_AFTER, ANY, 429, "retry-after: 3601", "", "attempts_exhausted, close 3601000"),
    (RETRY_AFTER, ANY, 429, "retry-after: 0", "", "retry"),
    (RETRY_AFTER, ANY, 503, "retry-after: 0", "", "retry"),
    (RETRY_AFTER, ANY, 429, "retry-after: -1", "", "retry"),
    (RETRY_AFTER, ANY, 429, "retry-after: soon", "", "retry"),
    (RETRY_AFTER, ANY, 429, "retry-after:", "", "retry"),
    (RETRY_AFTER, ANY, 429, "retry-after: NaN", "", "retry"),
    (RETRY_AFTER, ANY, 429, "retry-after: inf", "", "retry"),
    (RETRY_AFTER, ANY, 200, "retry-after: 9", "", "complete"),
    (OPENAI, ANY, 429, "retry-after: 0.25", "", "free 250, close 250"),
    (OPENAI, ANY, 429, "retry-after: 0.0001", "", "free, close 1"),
    (OPENAI, ANY, 429, "retry-after-ms: 700", "", "free 700, close 700"),
    (OPENAI, ANY, 429, "retry-after-ms: 700 | retry-after: 9", "", "free 700, close 700"),
    (OPENAI, ANY, 429, "retry-after-ms: 1500.5 | retry-after: 9", "", "free 1501, close 1501"),
    (OPENAI, ANY, 429, "retry-after-ms: soon | retry-after: 9", "", "free 9000, close 9000"),
    (OPENAI, ANY, 429, "retry-after-ms: 0 | retry-after: 9", "", "free 9000, close 9000"),

    // Unix times where seconds are due.
    (RETRY_AFTER, ANY, 429, "retry-after: 1800000004", "", "free 4000, close 4000"),
    (RETRY_AFTER, ANY, 429, "retry-after: 1800000004500", "", "free 4500, close 4500"),
    (RETRY_AFTER, ANY, 429, "retry-after: 1700000000", "", "retry, ignored"),

    // Dates: the three forms of HTTP, and zones that senders write.
    (DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:30 GMT", "", "free 30000, close 30000"),
    (DATES, ANY, 429, "retry-after: Friday, 15-Jan-27 08:00:30 GMT", "", "free 30000, close 30000"),
    (DATES, ANY, 429, "retry-after: Fri Jan 15 08:00:30 2027", "", "free 30000, close 30000"),
    (DATES, ANY, 503, "retry-after: Fri, 15 Jan 2027 08:00:30 GMT", "", "retry 30000"),
    (DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:00 GMT", "", "retry"),
    (DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 07:59:59 GMT", "", "retry, ignored"),
    (DATES, ANY, 429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT", "", "retry, ignored"),
    (DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 10:00:00 GMT", "", "attempts_exhausted, close 7200000"),
    (DATES, ANY, 429, "retry-after: Fri, 32 Jan 2027 08:00:30 GMT", "", "retry"),
    (MAIL_DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:30 UTC", "", "free 30000, close 30000"),
    (MAIL_DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:30 +0000", "", "free 30000, close 30000"),
    (MAIL_DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:30 -0000", "", "free 30000, close 30000"),
    (MAIL_DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 09:00:30 +0100", "", "free 30000, close 30000"),
    (MAIL_DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 03:00:30 -0500", "", "free 30000, close 30000"),
    (MAIL_DATES, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:30 gmt", "", "free 30000, close 30000"),
    (RFC3339, ANY, 429, "retry-after: 2027-01-15T08:00:30Z", "", "free 30000, close 30000"),
    (RFC3339, ANY, 429, "retry-after: 2027-01-15T08:00:30.250Z", "", "free 30250, close 30250"),
    (RFC3339, ANY, 429, "retry-after: 2027-01-15 08:00:30", "", "free 30000, close 30000"),
    (RFC3339, ANY, 429, "retry-after: 2027-01-15T10:00:30+02:00", "", "free 30000, close 30000"),
    (RFC3339, ANY, 429, "retry-after: 2026-01-15T08:00:30Z", "", "retry, ignored"),

    // Durations.
    (GO, ANY, 429, "retry-after: 2s", "", "free 2000, close 2000"),
    (GO, ANY, 429, "retry-after: 1m2.5s", "", "free 62500, close 62500"),
    (GO, ANY, 429, "retry-after: 450ms", "", "free 450, close 450"),
    (GO, ANY, 429, "retry-after: 2h", "", "attempts_exhausted, close 7200000"),
    (GO, ANY, 429, "retry-after: 0s", "", "retry"),
    (GO, ANY, 429, "retry-after: 2x", "", "retry"),
    (ISO_DURATIONS, ANY, 429, "retry-after: PT2S", "", "free 2000, close 2000"),
    (ISO_DURATIONS, ANY, 429, "retry-after: PT1M30S", "", "free 90000, close 90000"),
    (ISO_DURATIONS, ANY, 429, "retry-after: PT0.5S", "", "free 500, close 500"),
    (ISO_DURATIONS, ANY, 429, "retry-after: P1D", "", "attempts_exhausted, close 86400000"),
    (ISO_DURATIONS, ANY, 429, "retry-after: P", "", "retry"),
    (ISO_DURATIONS, ANY, 429, "retry-after: PT", "", "retry"),

    // Repeated by proxies: the longest valid one.
    (LISTS, ANY, 429, "retry-after: 3, 3", "", "free 3000, close 3000"),
    (LISTS, ANY, 429, "retry-after: 3, 5", "", "free 5000, close 5000"),
    (LISTS, ANY, 429, "retry-after: 3 | retry-after: 7", "", "free 7000, close 7000"),
    (LISTS, ANY, 429, "retry-after: 7 | retry-after: later", "", "free 7000, close 7000"),
    (LISTS, ANY, 429, "retry-after: 3, later, 4", "", "free 4000, close 4000"),
    (LISTS, ANY, 429, "retry-after: Fri, 15 Jan 2027 08:00:30 GMT, 9", "", "free 30000, close 30000"),
    (LISTS, ANY, 429, "retry-after: 9, Fri, 15 Jan 2027 08:00:30 GMT", "", "free 30000, close 30000"),
    (LISTS, ANY, 429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT, 9", "", "free 9000, close 9000, ignored"),
    (LISTS, ANY, 429, "retry-after: ,", "", "retry"),

    // Beside a reset, the wait counts.
    (RETRY_AFTER, ANY, 429, "retry-after: 1 | x-ratelimit-remaining: 0 | x-ratelimit-reset: 20", "", "free 1000, close 1000"),
    (RETRY_AFTER, ANY, 429, "retry-after: 30 | x-ratelimit-remaining: 0 | x-ratelimit-reset: 20", "", "free 30000, close 30000"),
    (RETRY_AFTER, ANY, 429, "retry-after: 1 | ratelimit: \"a\";r=0;t=20", "", "free 1000, close 1000"),
    (RETRY_AFTER, ANY, 503, "retry-after: 1 | x-ratelimit-remaining: 0 | x-ratelimit-reset: 20", "", "retry 1000, close 20000"),
];
