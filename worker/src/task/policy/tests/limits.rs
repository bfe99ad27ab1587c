//! Rate limit headers.

use super::{ANY, Row};

const DRAFT_06: &str = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-06";
const DRAFT_07: &str = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-07";
const DRAFT_10: &str = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10";
const OPENAI: &str = "https://platform.openai.com/docs/guides/rate-limits";
const ANTHROPIC: &str = "https://platform.claude.com/docs/en/api/rate-limits";
const GITHUB: &str = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api";
const OPENROUTER: &str = "https://openrouter.ai/docs/api-reference/limits";
const X: &str = "https://docs.x.com/x-api/fundamentals/rate-limits";
const UNIPILE: &str = "https://developer.unipile.com/v2.0/reference/rate-limit";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // The fields of the IETF draft, in all its forms.
    (DRAFT_06, ANY, 200, "ratelimit-limit: 100 | ratelimit-remaining: 0 | ratelimit-reset: 50", "", "complete, close 50000"),
    (DRAFT_06, ANY, 200, "ratelimit-limit: 100 | ratelimit-remaining: 7 | ratelimit-reset: 50", "", "complete, requests 7"),
    (DRAFT_06, ANY, 429, "ratelimit-remaining: 0 | ratelimit-reset: 5", "", "free 5000, close 5000"),
    (DRAFT_06, ANY, 429, "ratelimit-reset: 5", "", "free 5000, close 5000"),
    (DRAFT_06, ANY, 200, "ratelimit-reset: 5", "", "complete"),
    (DRAFT_07, ANY, 200, "ratelimit: limit=100, remaining=0, reset=5", "", "complete, close 5000"),
    (DRAFT_07, ANY, 429, "ratelimit: limit=100, remaining=0, reset=5", "", "free 5000, close 5000"),
    (DRAFT_07, ANY, 200, "ratelimit: limit=100, remaining=50, reset=5", "", "complete"),
    (DRAFT_07, ANY, 200, "ratelimit: limit=100,remaining=0,reset=5", "", "complete, close 5000"),
    (DRAFT_07, ANY, 200, "ratelimit: limit=100 | ratelimit: remaining=0 | ratelimit: reset=5", "", "complete, close 5000"),
    (DRAFT_07, ANY, 200, "ratelimit: limit=100, remaining=0", "", "complete"),
    (DRAFT_10, ANY, 200, "ratelimit: \"default\";r=0;t=30", "", "complete, close 30000"),
    (DRAFT_10, ANY, 200, "ratelimit: \"default\";r=50;t=30", "", "complete"),
    (DRAFT_10, ANY, 429, "ratelimit: \"default\";r=0;t=30", "", "free 30000, close 30000"),
    (DRAFT_10, ANY, 200, "ratelimit: default;r=0;t=30", "", "complete, close 30000"),
    (DRAFT_10, ANY, 200, "ratelimit: \"day\";r=5;t=9, \"second\";r=0;t=2", "", "complete, close 2000"),
    (DRAFT_10, ANY, 200, "ratelimit: \"day\";r=0;t=9, \"second\";r=0;t=2", "", "complete, close 9000"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a, b;r=0;t=8\";r=5;t=9", "", "complete"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a\" ; r=0 ; t=4 ; pk=:YWJj:", "", "complete, close 4000"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a\";t=4;r=0", "", "complete, close 4000"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a\";r=0", "", "complete"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a\";r=0;t=0", "", "complete"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a\";r=x;t=4", "", "complete"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a\";r=0;t=99999", "", "complete, ignored"),
    (DRAFT_10, ANY, 200, "ratelimit-policy: \"burst\";q=100;w=60", "", "complete"),
    (DRAFT_10, ANY, 200, "ratelimit: \"a;r=0", "", "complete"),

    // Resets: durations, seconds, Unix times in seconds and in milliseconds, dates.
    (OPENAI, ANY, 200, "x-ratelimit-remaining-requests: 0 | x-ratelimit-reset-requests: 12ms", "", "complete, close 12"),
    (OPENAI, ANY, 200, "x-ratelimit-remaining-tokens: 0 | x-ratelimit-reset-tokens: 6m0s", "", "complete, close 360000"),
    (OPENAI, ANY, 200, "x-ratelimit-remaining-requests: 9 | x-ratelimit-remaining-tokens: 1500", "", "complete, requests 9, tokens 1500"),
    (OPENAI, ANY, 429, "x-ratelimit-remaining-tokens: 0 | x-ratelimit-reset-tokens: 6m0s", "", "free 360000, close 360000"),
    (OPENAI, ANY, 200, "x-ratelimit-remaining-requests: -1 | x-ratelimit-reset-requests: 1s", "", "complete"),
    (ANTHROPIC, ANY, 200, "anthropic-ratelimit-requests-remaining: 0 | anthropic-ratelimit-requests-reset: 2027-01-15T08:00:03Z", "", "complete, close 3000"),
    (ANTHROPIC, ANY, 200, "anthropic-ratelimit-input-tokens-remaining: 0 | anthropic-ratelimit-input-tokens-reset: 2027-01-15T08:00:03Z", "", "complete, close 3000"),
    (ANTHROPIC, ANY, 200, "anthropic-ratelimit-input-tokens-remaining: 3000 | anthropic-ratelimit-tokens-remaining: 1000", "", "complete, tokens 1000"),
    (ANTHROPIC, ANY, 200, "anthropic-ratelimit-requests-remaining: 0 | anthropic-ratelimit-requests-reset: 2027-01-15T07:59:03Z", "", "complete, ignored"),
    (UNIPILE, ANY, 200, "x-ratelimit-limit: 50 | x-ratelimit-remaining: 12 | x-ratelimit-reset: 24", "", "complete, requests 12"),
    (UNIPILE, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 24", "", "complete, close 24000"),
    (UNIPILE, ANY, 429, "x-ratelimit-reset: 24", "", "free 24000, close 24000"),
    (UNIPILE, ANY, 503, "x-ratelimit-reset: 24", "", "retry"),
    (UNIPILE, ANY, 200, "x-ratelimit-remaining: many | x-ratelimit-reset: 24", "", "complete"),
    (UNIPILE, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 0", "", "complete"),
    (UNIPILE, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: -5", "", "complete"),
    (UNIPILE, ANY, 200, "x-ratelimit-remaining: 0.5 | x-ratelimit-reset: 2", "", "complete, close 2000"),
    (GITHUB, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800000003", "", "complete, close 3000"),
    (GITHUB, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800003601", "", "complete, ignored"),
    (GITHUB, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: Fri, 15 Jan 2027 08:00:03 UTC", "", "complete, close 3000"),
    (OPENROUTER, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800000030000", "", "complete, close 30000"),
    (OPENROUTER, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800036000000", "", "complete, ignored"),
    (OPENROUTER, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1799999990000", "", "complete, ignored"),
    (OPENROUTER, ANY, 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 18000000300000000", "", "complete, ignored"),
    (X, ANY, 200, "x-rate-limit-remaining: 0 | x-rate-limit-reset: 1800000003", "", "complete, close 3000"),
    (X, ANY, 429, "x-rate-limit-remaining: 0 | x-rate-limit-reset: 1800000900", "", "free 900000, close 900000"),
    (X, ANY, 200, "x-rate-limit-remaining: 40 | x-rate-limit-reset: 1800000900", "", "complete, requests 40"),
];
