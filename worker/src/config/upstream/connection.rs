//! How an `[[upstream]]` block says that its upstream is connected to: a proxy, certificates, HTTP/1.1 only.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use url::Url;

use crate::config::secrets::SecretReader;
use crate::http::connection::transport::{ClientIdentity, ProxyServer, Transport, TransportSettings};
use crate::http::own_secrets::in_login;

/// The settings of a block as written.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RawConnection {
    proxy: Option<RawProxy>,
    ca_file: Option<PathBuf>,
    client_certificate_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    http1_only: Option<bool>,
}

/// A proxy as written.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProxy {
    url: String,
    user: Option<String>,
    password: Option<String>,
}

impl std::fmt::Debug for RawProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password is left out.
        f.debug_struct("RawProxy").field("url", &self.url).finish_non_exhaustive()
    }
}

impl RawConnection {
    /// Reads the certificates. `None`: nothing differs from the default.
    ///
    /// # Errors
    /// A file cannot be read or used, or the proxy is invalid.
    pub fn read(&self, secrets: &SecretReader<'_>) -> anyhow::Result<Option<Transport>> {
        let settings = TransportSettings {
            proxy: self.proxy.as_ref().map(|proxy| proxy.read(secrets)).transpose().context("proxy")?,
            roots: self.ca_file.as_ref().map(|file| secrets.file(file)).transpose().context("ca_file")?,
            identity: self.identity(secrets)?,
            http1_only: self.http1_only.unwrap_or_default(),
        };
        let is_default = settings == TransportSettings::default();
        Ok(if is_default { None } else { Some(Transport::new(&settings)?) })
    }

    fn identity(&self, secrets: &SecretReader<'_>) -> anyhow::Result<Option<ClientIdentity>> {
        match (&self.client_certificate_file, &self.client_key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(ClientIdentity {
                certificates: secrets.file(certificate).context("client_certificate_file")?,
                key: secrets.file(key).context("client_key_file")?,
            })),
            (Some(_), None) => bail!("client_certificate_file needs client_key_file; both may name the same file"),
            (None, Some(_)) => bail!("client_key_file needs client_certificate_file; both may name the same file"),
        }
    }
}

impl RawConnection {
    /// The login of the proxy.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn own_secrets(&self, secrets: &SecretReader<'_>) -> anyhow::Result<Vec<String>> {
        let proxy = self.proxy.as_ref().map(|proxy| proxy.read(secrets)).transpose().context("proxy")?;
        let login = proxy.and_then(|proxy| proxy.login);
        Ok(login.map_or_else(Vec::new, |(user, password)| in_login(&user, &password).into()))
    }
}

impl RawProxy {
    fn read(&self, secrets: &SecretReader<'_>) -> anyhow::Result<ProxyServer> {
        // What cannot be parsed is not quoted: it may hold a password.
        let url = Url::parse(&self.url)
            .context("its url cannot be parsed: use one such as \"http://proxy.example.com:3128\"")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "its url is neither http nor https");
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "its url has a login: use user and password, so that the password can come from a file or the environment"
        );
        ensure!(
            url.path() == "/" && url.query().is_none(),
            "its url has a path or query: give scheme, host and port only"
        );
        let login = match (&self.user, &self.password) {
            (None, None) => None,
            (Some(user), password) => {
                let password = secrets.fill(password.as_deref().unwrap_or_default()).context("password")?;
                Some((secrets.fill(user).context("user")?, password))
            }
            (None, Some(_)) => bail!("password needs user"),
        };
        Ok(ProxyServer { url, login })
    }
}
