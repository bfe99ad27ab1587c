//! Fetches access tokens by the client credentials grant of OAuth 2.0 (RFC 6749 section 4.4).

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use redial_core::protocol::credentials::is_secret_parameter;
use reqwest::Client;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::http::own_secrets::{OwnSecrets, in_login};

/// How long a token endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer of a token endpoint that is read. Tokens have a few KiB at most.
const MAX_BYTES: usize = 256 << 10;
/// How much of an endpoint's error is quoted.
const MAX_QUOTED: usize = 200;

/// A client of an authorization server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OAuthClient {
    pub token_url: Url,
    pub client_id: String,
    pub client_secret: String,
    pub scope: Option<String>,
    /// Further parameters of the request, such as `audience` or `resource`.
    pub params: BTreeMap<String, String>,
    pub login: ClientLogin,
}

/// How the client proves to the authorization server who it is (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientLogin {
    /// By HTTP's basic authentication, which every server supports.
    #[default]
    Basic,
    /// By parameters in the body.
    Body,
}

/// A token as issued.
pub struct IssuedToken {
    /// The `Authorization` to send.
    pub authorization: HeaderValue,
    /// How long it is valid, if the server says so.
    pub lifetime: Option<Duration>,
}

/// Why there is no token. The message contains no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The endpoint did not answer.
    #[error("the token endpoint {host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    /// It refused.
    #[error("the token endpoint {host} answered with status {status}{}", quoted(.error.as_deref()))]
    Refused { host: String, status: u16, error: Option<String> },
    /// Its answer is of no use.
    #[error("the token endpoint {host} issued no usable token: {why}")]
    Invalid { host: String, why: &'static str },
}

fn quoted(error: Option<&str>) -> String {
    error.map_or(String::new(), |error| format!(" and the error {error:?}"))
}

/// The answer of a token endpoint (RFC 6749 sections 5.1 and 5.2).
#[derive(Deserialize)]
struct TokenResponse {
    access_token: Option<String>,
    token_type: Option<String>,
    /// Some servers send a string.
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is left out, and so are parameters that may be one.
        f.debug_struct("OAuthClient").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl OAuthClient {
    /// The same for the same settings: they can share a token.
    pub fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The secrets that it shows to the authorization server.
    pub fn own_secrets(&self) -> Vec<String> {
        let params = self.params.iter().filter(|(name, _)| is_secret_parameter(name) || *name == "assertion");
        let params = params.map(|(_, value)| value.clone());
        in_login(&self.client_id, &self.client_secret).into_iter().chain(params).collect()
    }

    /// What stands for its tokens, which change, in the identity of calls.
    pub fn identity(&self) -> HeaderValue {
        super::identity(&[self.token_url.as_str(), &self.client_id, self.scope.as_deref().unwrap_or_default()])
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// The server does not answer, or issues none.
    pub async fn fetch(&self, http: &Client) -> Result<IssuedToken, TokenError> {
        let host = || self.token_url.host_str().unwrap_or_default().to_owned();
        let unreachable = |error: reqwest::Error| {
            let error = error.without_url();
            let cause = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
            TokenError::Unreachable { host: host(), why: cause.map_or_else(String::new, ToString::to_string) }
        };
        let mut response = self.request(http).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(TokenError::Invalid { host: host(), why: "its answer is too large" });
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Option<TokenResponse> = serde_json::from_slice(&body).ok();
        if !status.is_success() {
            // A server that quotes the request would put the secret into the log.
            let secrets = OwnSecrets::new(self.own_secrets());
            let error = answer.and_then(|answer| answer.error(&secrets));
            return Err(TokenError::Refused { host: host(), status: status.as_u16(), error });
        }
        answer
            .ok_or("its answer is not JSON")
            .and_then(TokenResponse::token)
            .map_err(|why| TokenError::Invalid { host: host(), why })
    }

    fn request(&self, http: &Client) -> reqwest::RequestBuilder {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        form.extend_pairs(&self.params);
        let mut request = http.post(self.token_url.clone()).timeout(TIMEOUT);
        match self.login {
            ClientLogin::Body => {
                form.append_pair("client_id", &self.client_id).append_pair("client_secret", &self.client_secret);
            }
            ClientLogin::Basic => {
                let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let login = format!("{}:{}", encoded(&self.client_id), encoded(&self.client_secret));
                request = request.header(AUTHORIZATION, format!("Basic {}", BASE64.encode(login)));
            }
        }
        let request = request.header(ACCEPT, "application/json");
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.finish())
    }
}

impl TokenResponse {
    fn token(self) -> Result<IssuedToken, &'static str> {
        let token = self.access_token.filter(|token| !token.is_empty()).ok_or("there is no access_token in it")?;
        if self.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err("its token_type is not Bearer");
        }
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut authorization =
            value.map_err(|_| "its access_token contains characters that a header must not have")?;
        authorization.set_sensitive(true);
        let seconds = self.expires_in.and_then(|seconds| match seconds {
            serde_json::Value::Number(number) => number.as_f64(),
            serde_json::Value::String(text) => text.trim().parse().ok(),
            _ => None,
        });
        let lifetime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(IssuedToken { authorization, lifetime })
    }

    fn error(self, secrets: &OwnSecrets) -> Option<String> {
        let mut text = self.error?;
        if let Some(description) = self.error_description {
            text = format!("{text}: {description}");
        }
        let mut text = secrets.clean_text(text);
        let end = (0..=MAX_QUOTED.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<(String, Option<u64>), &'static str> {
        let answer: TokenResponse = serde_json::from_str(answer).map_err(|_| "not JSON")?;
        let token = answer.token()?;
        let text = token.authorization.to_str().unwrap_or_default().to_owned();
        Ok((text, token.lifetime.map(|lifetime| lifetime.as_secs())))
    }

    #[test]
    fn answers_of_token_endpoints_are_read_as_servers_write_them() {
        let bearer = |seconds| Ok(("Bearer t".to_owned(), seconds));
        assert_eq!(read(r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#), bearer(Some(3600)));
        assert_eq!(read(r#"{"access_token":"t","token_type":"bearer","expires_in":"3599"}"#), bearer(Some(3599)));
        assert_eq!(read(r#"{"access_token":"t","expires_in":59.9,"scope":"a"}"#), bearer(Some(59)));
        assert_eq!(read(r#"{"access_token":"t","expires_in":-5}"#), bearer(None));
        assert_eq!(read(r#"{"access_token":"t"}"#), bearer(None));
        assert!(read(r#"{"access_token":"t","token_type":"mac"}"#).is_err());
        assert!(read(r#"{"access_token":""}"#).is_err());
        assert!(read(r#"{"access_token":"t\nHost: evil"}"#).is_err());
        assert!(read(r#"{"id_token":"t"}"#).is_err());
    }
}
