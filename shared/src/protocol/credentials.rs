//! What carries credentials: one classification of headers and query parameters, for redaction and for deciding who may share an answer.
//!
//! Nobody can list all headers that name an account: every service has its own. So a header belongs to the identity of its caller unless
//! it is known not to.

use url::Url;

/// Headers, or prefixes of headers, that change neither an answer nor on whose behalf it is given: traces, request ids, and what the
/// official SDKs of OpenAI, Anthropic, AWS, Azure, Google and Stripe report about themselves and their attempts, and what Cloudflare and
/// Envoy add to each request.
const NEUTRAL: [&str; 28] = [
    "amz-sdk-",
    "baggage",
    "b3",
    "cf-ray",
    "date",
    "idempotency-key",
    "request-id",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "user-agent",
    "x-amz-user-agent",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-b3-",
    "x-client-request-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-goog-api-client",
    "x-ms-client-request-id",
    "x-request-id",
    "x-stainless-",
    "x-stripe-client-telemetry",
    "x-stripe-client-user-agent",
];

/// Headers that may change an answer, and never say on whose behalf: content negotiation and metadata, conditions and caching (RFC 9110
/// sections 8, 12 and 13, RFC 9111), preferences (RFC 7240), priority (RFC 9218), and the versions of well-known APIs.
const OF_CONTENT: [&str; 34] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-version",
    "anthropic-beta",
    "anthropic-version",
    "api-version",
    "cache-control",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-type",
    "digest",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "openai-beta",
    "pragma",
    "prefer",
    "priority",
    "range",
    "stripe-version",
    "te",
    "want-digest",
    "x-api-version",
    "x-github-api-version",
    "x-ms-version",
];

/// Substrings of the names of headers that contain secrets.
const SECRET: [&str; 8] = ["authorization", "cookie", "api-key", "apikey", "token", "secret", "password", "signature"];

/// Headers that select one of the accounts that a credential gives access to: those of OpenAI, Anthropic, Stripe, Google and Azure,
/// and names that in-house services commonly use.
const ACCOUNT: [&str; 9] = [
    "openai-organization",
    "openai-project",
    "anthropic-workspace-id",
    "stripe-account",
    "x-goog-user-project",
    "x-ms-client-request-account",
    "x-tenant-id",
    "x-account-id",
    "x-organization-id",
];

/// Words in the names of query parameters that contain secrets, such as the `code` of OAuth 2.0 (RFC 6749 section 4.1.2) and the `sig` of
/// a shared access signature.
const SECRET_PARAMETER: [&str; 16] = [
    "apikey",
    "assertion",
    "auth",
    "code",
    "credential",
    "jwt",
    "key",
    "pass",
    "passwd",
    "password",
    "pwd",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
];

/// Whether a header's value is known to be a secret.
pub fn is_secret(header: &str) -> bool {
    let name = header.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// Whether a header is known to change neither an answer nor on whose behalf it is given.
pub fn is_neutral(header: &str) -> bool {
    // Without a copy in lower case: this is asked about each header of each task.
    let begins_with = |known: &str| header.get(..known.len()).is_some_and(|part| part.eq_ignore_ascii_case(known));
    NEUTRAL.iter().any(|known| begins_with(known) && (known.ends_with('-') || header.len() == known.len()))
}

/// Whether a header is known not to say on whose behalf a call is made. The value of any other one may be a credential: it is hidden
/// wherever a task is shown.
pub fn is_harmless(header: &str) -> bool {
    is_neutral(header) || OF_CONTENT.iter().any(|known| known.eq_ignore_ascii_case(header))
}

/// Whether a header may say on whose behalf a call is made.
pub fn is_identity(header: &str) -> bool {
    !is_harmless(header)
}

/// Whether a header is known to say nothing but on whose behalf a call is made, so that it changes no answer that all may share.
pub fn is_credential(header: &str) -> bool {
    is_secret(header) || ACCOUNT.contains(&header.to_ascii_lowercase().as_str())
}

/// Whether the value of a query parameter must never be shown: `key`, `api_key`, `access_token`, `X-Amz-Signature`, `code`, ...
pub fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.split(['_', '-', '.', '[', ']']).any(|word| SECRET_PARAMETER.contains(&word))
        || ["token", "secret", "password", "apikey"].iter().any(|part| name.contains(part))
}

/// The credentials in a URL: its user information, and the query parameters that contain secrets.
pub fn in_url(url: &Url) -> Vec<String> {
    let login = (!url.username().is_empty() || url.password().is_some())
        .then(|| format!("{}:{}", url.username(), url.password().unwrap_or_default()));
    let secret = url.query_pairs().filter(|(name, _)| is_secret_parameter(name));
    login.into_iter().chain(secret.map(|(name, value)| format!("{name}={value}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_harmless_belongs_to_the_identity() {
        for secret in ["Authorization", "X-Api-Key", "api-key", "Cookie", "X-Auth-Token", "x-goog-api-key"] {
            assert!(is_secret(secret) && is_credential(secret) && is_identity(secret), "{secret}");
        }
        for account in ["OpenAI-Organization", "Stripe-Account"] {
            assert!(!is_secret(account) && is_credential(account) && is_identity(account), "{account}");
        }
        for unknown in ["X-Auth-Key", "Ocp-Apim-Subscription-Key", "X-User-Id", "X-Tenant", "X-Forwarded-User", "From"]
        {
            assert!(is_identity(unknown) && !is_harmless(unknown) && !is_neutral(unknown), "{unknown}");
        }
        for content in ["Accept", "Content-Type", "anthropic-version"] {
            assert!(is_harmless(content) && !is_neutral(content) && !is_identity(content), "{content}");
        }
        for neutral in ["X-Request-Id", "User-Agent", "x-stainless-lang", "traceparent"] {
            assert!(is_neutral(neutral) && is_harmless(neutral), "{neutral}");
        }
        let known = NEUTRAL.iter().chain(&OF_CONTENT).filter(|name| is_credential(name)).collect::<Vec<_>>();
        assert!(known.is_empty(), "{known:?} would be both");
    }

    #[test]
    fn parameters_that_contain_secrets_are_recognized_by_their_names() {
        for parameter in [
            "key",
            "api_key",
            "apiKey",
            "access_token",
            "accessToken",
            "X-Amz-Signature",
            "sig",
            "code",
            "client_secret",
            "X-Amz-Credential",
            "sessionToken",
            "auth[token]",
        ] {
            assert!(is_secret_parameter(parameter), "{parameter}");
        }
        for parameter in ["q", "keyword", "design", "page", "encode", "passage"] {
            assert!(!is_secret_parameter(parameter), "{parameter}");
        }
    }

    #[test]
    fn a_urls_credentials_are_found() -> Result<(), url::ParseError> {
        assert_eq!(in_url(&Url::parse("https://u:p@h/a?q=1&key=k&x=2")?), ["u:p", "key=k"]);
        assert!(in_url(&Url::parse("https://h/a?q=a%20b")?).is_empty());
        Ok(())
    }
}
