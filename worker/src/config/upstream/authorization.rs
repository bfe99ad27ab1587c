//! How an `[[upstream]]` block says that its calls are authorized by more than a header.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use url::Url;

use crate::config::secrets::SecretReader;
use crate::http::credentials::oauth::{ClientLogin, OAuthClient};
use crate::http::credentials::sigv4::AwsSigner;

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

impl RawOAuth {
    /// The secrets that it is made of.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn own_secrets(&self, secrets: &SecretReader<'_>) -> anyhow::Result<Vec<String>> {
        let client = self.read(secrets)?;
        Ok(client.own_secrets())
    }
}

/// `aws` as written.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAws {
    region: String,
    service: String,
    /// By default the variables that AWS's own tools read.
    #[serde(default = "access_key_variable")]
    access_key_id: String,
    #[serde(default = "secret_key_variable")]
    secret_access_key: String,
    session_token: Option<String>,
}

fn access_key_variable() -> String {
    "${AWS_ACCESS_KEY_ID}".to_owned()
}

fn secret_key_variable() -> String {
    "${AWS_SECRET_ACCESS_KEY}".to_owned()
}

impl RawAws {
    /// Reads the secrets.
    ///
    /// # Errors
    /// A secret cannot be read, or something is empty.
    pub fn read(&self, secrets: &SecretReader<'_>) -> anyhow::Result<AwsSigner> {
        let fill = |name: &str, text: &str| {
            let value = secrets.fill(text).with_context(|| name.to_owned())?;
            ensure!(!value.trim().is_empty(), "{name} is empty");
            Ok(value)
        };
        // A session's token comes from where the keys come from.
        let of_environment = "${AWS_SESSION_TOKEN}".to_owned();
        let is_from_environment =
            self.access_key_id == access_key_variable() && secrets.has_variable("AWS_SESSION_TOKEN");
        let session_token = self.session_token.as_ref().or_else(|| is_from_environment.then_some(&of_environment));
        Ok(AwsSigner {
            region: fill("region", &self.region)?,
            service: fill("service", &self.service)?,
            access_key_id: fill("access_key_id", &self.access_key_id)?,
            secret_access_key: fill("secret_access_key", &self.secret_access_key)?,
            session_token: session_token.map(|text| fill("session_token", text)).transpose()?,
        })
    }
}

impl RawAws {
    /// The secrets that it is made of.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn own_secrets(&self, secrets: &SecretReader<'_>) -> anyhow::Result<Vec<String>> {
        let signer = self.read(secrets)?;
        Ok([signer.secret_access_key].into_iter().chain(signer.session_token).collect())
    }
}
