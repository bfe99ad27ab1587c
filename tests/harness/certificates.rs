//! A certificate authority for one test: certificates of servers and clients, in files.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate authority. Its files vanish with it.
pub struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// The certificate's file as text.
    pub fn certificate(&self) -> &str {
        text(&self.certificate)
    }

    /// The key's file as text.
    pub fn key(&self) -> &str {
        text(&self.key)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the temp folder has a plain name")
}

impl Certificates {
    /// A new authority that nobody trusts yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority can sign for itself");
        let folder = tempfile::tempdir().expect("the temp folder is writable");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("the temp folder is writable");
        Self { issuer, folder }
    }

    /// The file with the authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a server or a client on this machine.
    pub fn issue(&self, name: &str) -> CertificateFiles {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("these are valid names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority can sign");
        let path = |end: &str| self.folder.path().join(format!("{name}-{end}.pem"));
        let files = CertificateFiles { certificate: path("cert"), key: path("key") };
        fs::write(&files.certificate, certificate.pem()).expect("the temp folder is writable");
        fs::write(&files.key, key.serialize_pem()).expect("the temp folder is writable");
        files
    }

    /// What a server needs that speaks these protocols, and, if so, demands a certificate of this authority from its clients.
    pub fn acceptor(&self, protocols: &[&str], demands_client_certificate: bool) -> TlsAcceptor {
        let files = self.issue("server");
        let certificate = CertificateDer::from_pem_file(&files.certificate).expect("a certificate that was just made");
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key that was just made");
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions");
        let builder = if demands_client_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("a certificate that was just made");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("there is a root"))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![certificate], key).expect("key and certificate fit");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// What a client needs that trusts this authority only and speaks one of these protocols, in one of these versions of TLS.
    pub fn connector(&self, protocols: &[&str], versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a certificate that was just made");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("ring supports these versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// Connects to a server on this machine.
pub async fn connect(connector: &TlsConnector, port: u16) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("this is a valid name");
    connector.connect(name, TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?).await
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
