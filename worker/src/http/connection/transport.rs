//! How an upstream is connected to: directly or through a proxy, verified by which certificates, over which versions of HTTP.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

use reqwest::Proxy;
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use url::Url;

/// What differs from the default, which is a direct connection, the root certificates of the system, no client certificate, and HTTP/2
/// where the upstream speaks it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TransportSettings {
    pub proxy: Option<ProxyServer>,
    /// Root certificates in PEM, in place of those of the system.
    pub roots: Option<Vec<u8>>,
    pub identity: Option<ClientIdentity>,
    pub http1_only: bool,
}

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyServer {
    pub url: Url,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// How this client proves who it is, in PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientIdentity {
    /// The certificate, and those that lead from it to one that the upstream knows.
    pub certificates: Vec<u8>,
    pub key: Vec<u8>,
}

/// How connections are made.
#[derive(Clone)]
pub struct Transport {
    /// The same for the same settings: their connections can be shared.
    id: u64,
    pub tls: ClientConfig,
    pub proxy: Option<Proxy>,
    pub http1_only: bool,
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTransport {
    /// No roots on this system.
    #[error("cannot read the system's root certificates; are they installed (Debian: ca-certificates)? {0}")]
    SystemRoots(rustls::Error),
    /// Not PEM, or not certificates.
    #[error("{file}: it has no certificate in PEM{}", .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Certificates {
        /// The setting that names the file.
        file: &'static str,
        why: Option<String>,
    },
    /// Not PEM, not a key, or encrypted.
    #[error("client_key_file: it has no private key in PEM without a passphrase: {0}")]
    Key(pem::Error),
    /// Key and certificate do not fit.
    #[error("client_certificate_file and client_key_file do not belong together: {0}")]
    Identity(rustls::Error),
    /// The TLS library or the HTTP client refuses the settings.
    #[error("{0}")]
    Other(String),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The others may hold secrets.
        f.debug_struct("Transport").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Transport {
    /// Prepares connections with these settings.
    ///
    /// # Errors
    /// A certificate or key cannot be used, or the system has no root certificates.
    pub fn new(settings: &TransportSettings) -> Result<Self, InvalidTransport> {
        let mut hasher = DefaultHasher::new();
        settings.hash(&mut hasher);
        let verified = verifying(settings.roots.as_deref())?;
        let mut tls = match &settings.identity {
            None => verified.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates("client_certificate_file", &identity.certificates)?;
                let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(InvalidTransport::Key)?;
                verified.with_client_auth_cert(chain, key).map_err(InvalidTransport::Identity)?
            }
        };
        if !settings.http1_only {
            tls.alpn_protocols.push(b"h2".to_vec());
        }
        tls.alpn_protocols.push(b"http/1.1".to_vec());
        let proxy = settings.proxy.as_ref().map(ProxyServer::prepare).transpose()?;
        Ok(Self { id: hasher.finish(), tls, proxy, http1_only: settings.http1_only })
    }

    /// Identifies its settings.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl ProxyServer {
    fn prepare(&self) -> Result<Proxy, InvalidTransport> {
        let proxy =
            Proxy::all(self.url.as_str()).map_err(|error| InvalidTransport::Other(format!("proxy: {error}")))?;
        Ok(match &self.login {
            Some((user, password)) => proxy.basic_auth(user, password),
            None => proxy,
        })
    }
}

fn verifying(roots: Option<&[u8]>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, InvalidTransport> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidTransport::Other(error.to_string()))?;
    let Some(roots) = roots else {
        return builder.with_platform_verifier().map_err(InvalidTransport::SystemRoots);
    };
    let mut store = RootCertStore::empty();
    for root in certificates("ca_file", roots)? {
        let why =
            |error: rustls::Error| InvalidTransport::Certificates { file: "ca_file", why: Some(error.to_string()) };
        store.add(root).map_err(why)?;
    }
    Ok(builder.with_root_certificates(store))
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTransport> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(InvalidTransport::Certificates { file, why: None }),
        Err(error) => Err(InvalidTransport::Certificates { file, why: Some(error.to_string()) }),
    }
}
