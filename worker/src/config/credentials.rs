//! How an `[[upstream]]` block says that its calls are authorized by more than a header.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use url::Url;

use super::secrets::SecretReader;
use crate::http::credentials::oauth::{ClientLogin, OAuthClient};

/// `oauth` as written.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOAuth {
    token_url: String,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    #[serde(default)]
    params: BTreeMap<String, String>,
    #[serde(default)]
    login: ClientLogin,
}

impl RawOAuth {
    /// Reads the secrets.
    ///
    /// # Errors
    /// A secret cannot be read, or the URL is invalid.
    pub fn read(&self, secrets: &SecretReader<'_>) -> anyhow::Result<OAuthClient> {
        let token_url = Url::parse(&self.token_url).context("token_url cannot be parsed")?;
        ensure!(matches!(token_url.scheme(), "http" | "https"), "token_url is neither http nor https");
        let fill = |name: &str, text: &str| secrets.fill(text).with_context(|| name.to_owned());
        let params = self.params.iter().map(|(name, text)| Ok((name.clone(), fill(name, text)?)));
        let client = OAuthClient {
            token_url,
            client_id: fill("client_id", &self.client_id)?,
            client_secret: fill("client_secret", &self.client_secret)?,
            scope: self.scope.clone(),
            params: params.collect::<anyhow::Result<_>>()?,
            login: self.login,
        };
        ensure!(!client.client_id.is_empty(), "client_id is empty");
        ensure!(!client.client_secret.is_empty(), "client_secret is empty");
        Ok(client)
    }
}
