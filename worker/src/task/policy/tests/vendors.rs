//! What only the hosts of one vendor do.

use super::{ANY, Row};

const OPENAI: &str = "https://help.openai.com/en/articles/5955604-troubleshooting-api-rate-limits-and-429-errors";
const OPENAI_SDK: &str = "https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py";
const AZURE: &str = "https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/quota";
const ANTHROPIC: &str = "https://platform.claude.com/docs/en/api/errors";
const ANTHROPIC_SDK: &str =
    "https://github.com/anthropics/anthropic-sdk-python/blob/main/src/anthropic/_base_client.py";
const GEMINI: &str = "https://ai.google.dev/gemini-api/docs/troubleshooting";
const GOOGLE_RPC: &str = "https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto";
const COHERE: &str = "https://docs.cohere.com/reference/errors";
const MISTRAL: &str = "https://rdrr.io/cran/tidyllm/src/R/api_mistral.R";
const GROQ: &str = "https://console.groq.com/docs/errors";
const OPENROUTER: &str = "https://github.com/Gitlawb/openclaude/issues/936";
const GITHUB_GRAPHQL: &str =
    "https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api";
const OPENROUTER_ERRORS: &str = "https://openrouter.ai/docs/api/reference/errors-and-debugging";
const CLAUDE_STREAM: &str = "https://platform.claude.com/docs/en/api/handle-errors";
const OPENAI_EVENTS: &str = "https://platform.openai.com/docs/api-reference/responses-streaming/response/failed";
const BEDROCK: &str = "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html";
const STRIPE: &str = "https://docs.stripe.com/error-low-level";
const CLOUDFLARE: &str = "https://developers.cloudflare.com/fundamentals/api/reference/limits/";
const GITHUB: &str = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#, "rejected"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"type":"insufficient_quota","code":null}}"#, "rejected"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"type":"billing","code":"credit_balance_exhausted"}}"#, "rejected"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"code":"project_spend_limit_exceeded"}}"#, "rejected"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"code":"organization_usage_limit_exceeded"}}"#, "rejected"),
    (OPENAI, "api.openai.com", 429, "retry-after: 2", r#"{"error":{"code":"insufficient_quota"}}"#, "rejected, close 2000"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"code":"rate_limit_exceeded"}}"#, "retry"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"code":"rate_limit_exceeded","message":"Rate limit reached. Please try again in 6s."}}"#, "free 6000, close 6000"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"message":"Please try again in 172ms."}}"#, "free 172, close 172"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"message":"Please try again in 7m12s. Visit the page"}}"#, "free 432000, close 432000"),
    (OPENAI, "api.openai.com", 429, "retry-after: 1", r#"{"error":{"message":"Please try again in 6s."}}"#, "free 1000, close 1000"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":{"message":"Please try again in a while."}}"#, "retry"),
    (OPENAI, "api.openai.com", 429, "", "Please try again in 6s.", "retry"),
    (OPENAI, "api.openai.com", 429, "", r#"{"error":"#, "retry"),
    (OPENAI, "api.openai.com", 200, "", r#"{"error":{"code":"insufficient_quota"}}"#, "complete"),
    (OPENAI, ANY, 429, "", r#"{"error":{"code":"insufficient_quota"}}"#, "rejected"),
    (OPENAI, ANY, 429, "", r#"{"error":{"message":"Please try again in 6s."}}"#, "retry"),
    (OPENAI_SDK, "api.openai.com", 409, "", "", "retry"),
    (OPENAI_SDK, "api.openai.com.evil.org", 409, "", "", "rejected"),
    (AZURE, "x.openai.azure.com", 429, "", r#"{"error":{"code":"429","message":"Please retry after 6 seconds."}}"#, "free 6000, close 6000"),
    (AZURE, "x.openai.azure.com", 429, "", r#"{"error":{"code":"429","message":"Please retry after 1 second."}}"#, "free 1000, close 1000"),
    (AZURE, "x.openai.azure.com", 429, "retry-after-ms: 1200", "", "free 1200, close 1200"),
    (AZURE, "x.openai.azure.com", 200, "x-ratelimit-remaining-requests: -1 | x-ratelimit-reset-requests: 10", "", "complete"),
    (AZURE, "x.openai.azure.com", 200, "x-ratelimit-remaining-tokens: 0 | x-ratelimit-reset-tokens: 10", "", "complete"),
    (AZURE, "x.openai.azure.com", 200, "x-ratelimit-remaining-tokens: 40 | x-ratelimit-reset-tokens: 10", "", "complete, tokens 40"),
    (ANTHROPIC, "api.anthropic.com", 529, "", r#"{"type":"error","error":{"type":"overloaded_error"}}"#, "retry"),
    (ANTHROPIC, "api.anthropic.com", 429, "retry-after: 12", r#"{"type":"error","error":{"type":"rate_limit_error"}}"#, "free 12000, close 12000"),
    (ANTHROPIC, "api.anthropic.com", 429, "", r#"{"error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#, "rejected"),
    (ANTHROPIC_SDK, "api.anthropic.com", 409, "", "", "retry"),
    (GOOGLE_RPC, "generativelanguage.googleapis.com", 429, "", r#"{"error":{"code":429,"details":[{"@type":"x"},{"retryDelay":"34s"}]}}"#, "free 34000, close 34000"),
    (GOOGLE_RPC, "generativelanguage.googleapis.com", 429, "", r#"{"error":{"details":[{"retryDelay":"34.074824224s"}]}}"#, "free 34075, close 34075"),
    (GOOGLE_RPC, "generativelanguage.googleapis.com", 429, "", r#"[{"error":{"details":[{"retryDelay":"3s"}]}}]"#, "free 3000, close 3000"),
    (GOOGLE_RPC, "generativelanguage.googleapis.com", 503, "", r#"{"error":{"details":[{"retryDelay":"3s"}]}}"#, "retry 3000"),
    (GOOGLE_RPC, "eu-aiplatform.googleapis.com", 429, "", r#"{"error":{"details":[{"retryDelay":"3s"}]}}"#, "free 3000, close 3000"),
    (GEMINI, "generativelanguage.googleapis.com", 429, "", r#"{"error":{"message":"Quota exceeded.\nPlease retry in 46.5s."}}"#, "free 46500, close 46500"),
    (GEMINI, "generativelanguage.googleapis.com", 429, "", r#"{"error":{"message":"Please retry in 10h17m5.7s."}}"#, "attempts_exhausted, close 37025700"),
    (COHERE, "api.cohere.com", 499, "", "", "retry"),
    (COHERE, ANY, 499, "", "", "rejected"),
    (MISTRAL, "api.mistral.ai", 200, "x-ratelimitbysize-remaining-minute: 0 | ratelimitbysize-reset: 21", "", "complete, close 21000"),
    (MISTRAL, "api.mistral.ai", 200, "x-ratelimitbysize-remaining-minute: 900 | ratelimitbysize-reset: 21", "", "complete, tokens 900"),
    (GROQ, "api.groq.com", 498, "", r#"{"error":{"code":"capacity_exceeded"}}"#, "retry"),
    (GROQ, ANY, 498, "", "", "rejected"),
    (GROQ, "api.groq.com", 429, "", r#"{"error":{"message":"Please try again in 2m59.56s."}}"#, "free 179560, close 179560"),
    (OPENROUTER, "openrouter.ai", 429, "", r#"{"error":{"code":429,"metadata":{"headers":{"X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1800000030000"}}}}"#, "free 30000, close 30000"),
    (OPENROUTER, "openrouter.ai", 429, "", r#"{"error":{"code":429,"metadata":{"headers":{"X-RateLimit-Reset":1800000030000}}}}"#, "free 30000, close 30000"),
    (OPENROUTER, "openrouter.ai", 429, "", r#"{"error":{"metadata":{"headers":{"X-RateLimit-Reset":"1800036000000"}}}}"#, "attempts_exhausted, close 36000000"),
    (OPENROUTER_ERRORS, "openrouter.ai", 200, "content-type: application/json", r#"{"error":{"code":502,"message":"Provider returned error"}}"#, "retry"),
    (OPENROUTER_ERRORS, "openrouter.ai", 200, "content-type: application/json", r#"{"choices":[{"finish_reason":"error","error":{"code":503}}]}"#, "retry"),
    (OPENROUTER_ERRORS, "openrouter.ai", 200, "content-type: application/json", r#"{"error":{"code":403,"message":"flagged"}}"#, "rejected"),
    (OPENROUTER_ERRORS, "openrouter.ai", 200, "content-type: application/json", r#"{"error":null,"choices":[{"error":null,"message":{"content":"hi"}}]}"#, "complete"),
    (OPENROUTER_ERRORS, "openrouter.ai", 200, "content-type: application/json", r#"{"choices":[{"message":{"content":"hi"}}]}"#, "complete"),
    (OPENROUTER_ERRORS, "openrouter.ai", 200, "content-type: text/event-stream", "data: {\"choices\":[]}\n\ndata: {\"error\":{\"code\":\"server_error\"},\"choices\":[{\"finish_reason\":\"error\"}]}\n\n", "retry"),
    (OPENROUTER_ERRORS, "openrouter.ai", 402, "retry-after: 2", r#"{"error":{"code":402,"metadata":{"limit_source":"openrouter_in_flight_budget"}}}"#, "free 2000, close 2000"),
    (OPENROUTER_ERRORS, "openrouter.ai", 402, "", r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, "rejected"),
    (OPENROUTER_ERRORS, "openrouter.ai", 403, "", r#"{"error":{"code":403}}"#, "rejected"),
    (CLAUDE_STREAM, "api.anthropic.com", 200, "content-type: text/event-stream", "event: ping\ndata: {\"type\":\"ping\"}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n", "retry"),
    (CLAUDE_STREAM, "api.anthropic.com", 200, "content-type: text/event-stream", "event: ping\ndata: {\"type\":\"ping\"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", "complete"),
    (OPENAI_EVENTS, "api.openai.com", 200, "content-type: text/event-stream", "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\"}}}\n\n", "retry"),
    (OPENAI_EVENTS, "api.openai.com", 200, "content-type: text/event-stream", "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"error\":null}}\n\n", "complete"),
    (BEDROCK, "bedrock-runtime.eu-west-1.amazonaws.com", 429, "", r#"{"message":"Too many requests"}"#, "retry"),
    (BEDROCK, "bedrock-runtime.eu-west-1.amazonaws.com", 503, "", "", "retry"),
    (BEDROCK, "bedrock-runtime.eu-west-1.amazonaws.com", 403, "", r#"{"message":"AccessDenied"}"#, "rejected"),
    (STRIPE, "api.stripe.com", 409, "", r#"{"error":{"type":"idempotency_error"}}"#, "retry"),
    (STRIPE, "api.stripe.com", 409, "stripe-should-retry: false", "", "rejected"),
    (STRIPE, "api.stripe.com", 429, "", r#"{"error":{"code":"lock_timeout"}}"#, "retry"),
    (STRIPE, "api.stripe.com", 402, "", r#"{"error":{"code":"card_declined"}}"#, "rejected"),
    (CLOUDFLARE, "api.cloudflare.com", 429, "ratelimit: \"default\";r=0;t=30 | retry-after: 31", "", "free 31000, close 31000"),
    (CLOUDFLARE, "api.cloudflare.com", 200, "ratelimit: \"default\";r=50;t=30", "", "complete"),
    (GITHUB, "api.github.com", 403, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800000600", r#"{"message":"API rate limit exceeded"}"#, "free 600000, close 600000"),
    (GITHUB, "api.github.com", 429, "retry-after: 60 | x-ratelimit-remaining: 4000 | x-ratelimit-reset: 1800000600", "", "free 60000, close 60000, requests 4000"),
    (GITHUB_GRAPHQL, "api.github.com", 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800000600", r#"{"errors":[{"type":"RATE_LIMITED","message":"API rate limit exceeded"}]}"#, "free 600000, close 600000"),
    (GITHUB_GRAPHQL, "api.github.com", 200, "x-ratelimit-remaining: 0 | x-ratelimit-reset: 1800000600", r#"{"data":{"viewer":{"login":"octocat"}}}"#, "complete, close 600000"),
    (GITHUB_GRAPHQL, "api.github.com", 200, "", r#"{"data":null,"errors":[{"type":"NOT_FOUND"}]}"#, "complete"),
    (GITHUB, "api.github.com", 403, "x-ratelimit-remaining: 4999 | x-ratelimit-reset: 1800000600", r#"{"message":"Forbidden"}"#, "rejected, requests 4999"),
];
