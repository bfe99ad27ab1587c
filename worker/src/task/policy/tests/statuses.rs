//! Statuses, and the headers that override them.

use super::{ANY, Row};

const RFC: &str = "https://www.rfc-editor.org/rfc/rfc9110#name-status-codes";
const RFC_429: &str = "https://www.rfc-editor.org/rfc/rfc6585#section-4";
const RFC_425: &str = "https://www.rfc-editor.org/rfc/rfc8470#section-5.2";
const RFC_413: &str = "https://www.rfc-editor.org/rfc/rfc9110#name-413-content-too-large";
const CLOUDFLARE: &str =
    "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/";
const CLOUDFLARE_1XXX: &str =
    "https://developers.cloudflare.com/changelog/post/2026-03-12-retry-after-header-for-1xxx-errors";
const STRIPE: &str = "https://github.com/stripe/stripe-python/blob/master/stripe/_http_client.py";
const OPENAI: &str = "https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py";
const ANTHROPIC: &str = "https://platform.claude.com/docs/en/api/errors";
const GITHUB: &str = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api";
const IANA: &str = "https://www.iana.org/assignments/http-status-codes/http-status-codes.xhtml";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    (RFC, ANY, 200, "", "", "complete"),
    (RFC, ANY, 201, "", "", "complete"),
    (RFC, ANY, 204, "", "", "complete"),
    (RFC, ANY, 206, "", "", "complete"),
    (RFC, ANY, 301, "", "", "rejected"),
    (RFC, ANY, 304, "", "", "rejected"),
    (RFC, ANY, 307, "", "", "rejected"),
    (RFC, ANY, 400, "", "", "rejected"),
    (RFC, ANY, 401, "", "", "rejected"),
    (RFC, ANY, 402, "", "", "rejected"),
    (RFC, ANY, 403, "", "", "rejected"),
    (RFC, ANY, 404, "", "", "rejected"),
    (RFC, ANY, 405, "", "", "rejected"),
    (RFC, ANY, 409, "", "", "rejected"),
    (RFC, ANY, 410, "", "", "rejected"),
    (RFC, ANY, 413, "", "", "rejected"),
    (RFC, ANY, 422, "", "", "rejected"),
    (RFC, ANY, 408, "", "", "retry"),
    (RFC_425, ANY, 425, "", "", "retry"),
    (RFC_429, ANY, 429, "", "", "retry"),
    (RFC, ANY, 500, "", "", "retry"),
    (RFC, ANY, 501, "", "", "rejected"),
    (RFC, ANY, 502, "", "", "retry"),
    (RFC, ANY, 503, "", "", "retry"),
    (RFC, ANY, 504, "", "", "retry"),
    (RFC, ANY, 505, "", "", "rejected"),
    (IANA, ANY, 506, "", "", "retry"),
    (IANA, ANY, 507, "", "", "retry"),
    (IANA, ANY, 508, "", "", "retry"),
    (IANA, ANY, 511, "", "", "retry"),
    (CLOUDFLARE, ANY, 520, "", "", "retry"),
    (CLOUDFLARE, ANY, 521, "", "", "retry"),
    (CLOUDFLARE, ANY, 522, "", "", "retry"),
    (CLOUDFLARE, ANY, 523, "", "", "retry"),
    (CLOUDFLARE, ANY, 524, "", "", "retry"),
    (CLOUDFLARE, ANY, 525, "", "", "retry"),
    (CLOUDFLARE, ANY, 526, "", "", "retry"),
    (CLOUDFLARE, ANY, 527, "", "", "retry"),
    (CLOUDFLARE, ANY, 530, "", "", "retry"),
    (CLOUDFLARE_1XXX, ANY, 530, "retry-after: 120", "", "retry 120000"),
    (CLOUDFLARE_1XXX, ANY, 429, "retry-after: 30", "error code: 1015", "free 30000, close 30000"),
    (ANTHROPIC, ANY, 529, "", "", "retry"),
    (IANA, ANY, 599, "", "", "retry"),

    // A refusal that says until when.
    (GITHUB, ANY, 403, "retry-after: 60", "", "free 60000, close 60000"),
    (GITHUB, ANY, 403, "retry-after: 0", "", "rejected"),
    (GITHUB, ANY, 403, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800000090", "", "free 90000, close 90000"),
    (GITHUB, ANY, 403, "x-ratelimit-remaining: 0", "", "rejected"),
    (GITHUB, ANY, 403, "x-ratelimit-remaining: 5 | x-ratelimit-reset: 1800000090", "", "rejected, requests 5"),
    (GITHUB, ANY, 403, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1799999990", "", "rejected, ignored"),
    (RFC_413, ANY, 413, "retry-after: 9", "", "free 9000, close 9000"),
    (RFC_413, ANY, 413, "retry-after: Fri, 15 Jan 2027 08:00:05 GMT", "", "free 5000, close 5000"),
    (RFC, ANY, 401, "retry-after: 60", "", "rejected"),
    (RFC, ANY, 404, "retry-after: 60", "", "rejected"),
    (RFC, ANY, 301, "retry-after: 60", "", "rejected"),

    // What the upstream says about a retry counts more than its status.
    (STRIPE, ANY, 500, "stripe-should-retry: false", "", "rejected"),
    (STRIPE, ANY, 400, "stripe-should-retry: true", "", "retry"),
    (STRIPE, ANY, 409, "Stripe-Should-Retry: true", "", "retry"),
    (STRIPE, ANY, 503, "stripe-should-retry: perhaps", "", "retry"),
    (OPENAI, ANY, 503, "x-should-retry: false", "", "rejected"),
    (OPENAI, ANY, 429, "x-should-retry: false", "", "rejected"),
    (OPENAI, ANY, 400, "x-should-retry: true", "", "retry"),
    (OPENAI, ANY, 404, "x-should-retry: TRUE", "", "retry"),
    (OPENAI, ANY, 501, "x-should-retry: true", "", "retry"),
    (OPENAI, ANY, 503, "x-should-retry: maybe", "", "retry"),
    (OPENAI, ANY, 429, "x-should-retry: true | retry-after: 2", "", "free 2000, close 2000"),
    (OPENAI, ANY, 200, "x-should-retry: true", "", "complete"),
];
