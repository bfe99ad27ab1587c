//! What carries credentials: one list for redaction and for deciding who may share an answer.

use url::Url;

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

/// Query parameters that contain secrets.
const SECRET_PARAMETER: [&str; 7] = ["key", "auth", "sig", "token", "secret", "password", "signature"];

/// Whether a header's value must never be shown.
pub fn is_secret(header: &str) -> bool {
    let name = header.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// Whether a header determines on whose behalf a call is made.
pub fn is_identity(header: &str) -> bool {
    is_secret(header) || ACCOUNT.contains(&header.to_ascii_lowercase().as_str())
}

/// Whether the value of a query parameter must never be shown: `key`, `api_key`, `access_token`, `X-Amz-Signature`, ...
pub fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.split(['_', '-', '.']).any(|word| SECRET_PARAMETER.contains(&word))
        || matches!(name.as_str(), "apikey" | "accesstoken")
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
    fn secrets_are_recognized_by_their_names() {
        for secret in ["Authorization", "X-Api-Key", "api-key", "Cookie", "X-Auth-Token", "x-goog-api-key"] {
            assert!(is_secret(secret) && is_identity(secret), "{secret}");
        }
        for account in ["OpenAI-Organization", "Stripe-Account"] {
            assert!(!is_secret(account) && is_identity(account), "{account}");
        }
        for neither in ["Accept", "Content-Type", "X-Request-Id"] {
            assert!(!is_identity(neither), "{neither}");
        }
        for parameter in ["key", "api_key", "apiKey", "access_token", "X-Amz-Signature", "sig"] {
            assert!(is_secret_parameter(parameter), "{parameter}");
        }
        for parameter in ["q", "keyword", "design", "page"] {
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
