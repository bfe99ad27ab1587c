//! The gateway's certificate: read at the start, and again when one of its files changes and at SIGHUP. Connections keep the one that they
//! began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redial_core::watched_files::WatchedFiles;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// The protocol by which a connection speaks HTTP/2 (RFC 9113 section 3.2).
pub(crate) const HTTP2: &[u8] = b"h2";
/// How often the files are looked at. A change is read at the second look that sees it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCertificate {
    /// The certificate, and behind it those that lead to the authority which clients trust.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCertificate {
    /// A file cannot be read, or has nothing of what it should have.
    #[error("{setting} {}: {}", path.display(), in_words(cause))]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: pem::Error,
    },
    /// The key is that of another certificate.
    #[error(
        "tls_key_file {} is not the key of the certificate in tls_certificate_file {}: replace both, and put the certificate of this server first",
        files.key.display(),
        files.certificate.display()
    )]
    OtherKey {
        /// Both files.
        files: Box<GatewayCertificate>,
    },
    /// The certificate or the key is of a kind that cannot be used.
    #[error("tls_certificate_file {}, tls_key_file {}: {cause}", files.certificate.display(), files.key.display())]
    Unusable {
        /// Both files.
        files: Box<GatewayCertificate>,
        /// Why.
        cause: rustls::Error,
    },
}

/// What makes TLS connections, with the certificate as it is now.
pub(crate) type CurrentAcceptor = watch::Receiver<TlsAcceptor>;

impl GatewayCertificate {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// One of them is missing or cannot be used, or they do not belong together.
    pub fn read(&self) -> Result<TlsAcceptor, InvalidCertificate> {
        let certificates = self.certificates()?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(invalid("tls_key_file", &self.key))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
        let mut config = config.map_err(|cause| {
            let files = Box::new(self.clone());
            match cause {
                rustls::Error::InconsistentKeys(_) => InvalidCertificate::OtherKey { files },
                cause => InvalidCertificate::Unusable { files, cause },
            }
        })?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the certificate, and those behind it.
    ///
    /// # Errors
    /// The file cannot be read, or has none.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, InvalidCertificate> {
        CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) })
            .map_err(invalid("tls_certificate_file", &self.certificate))
    }

    /// Reads the certificate again for as long as the gateway runs. One that cannot be used changes nothing.
    pub async fn keep_current(self, current: watch::Sender<TlsAcceptor>, mut hangups: watch::Receiver<()>) {
        let mut watched = WatchedFiles::new([self.certificate.as_path(), self.key.as_path()]);
        loop {
            let is_asked = tokio::select! {
                () = next_hangup(&mut hangups) => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            let files = self.clone();
            // A file may be on a disk that hangs.
            let work = tokio::task::spawn_blocking(move || {
                let is_due = !watched.changed().is_empty() || is_asked;
                if is_due {
                    watched.reading();
                }
                (is_due.then(|| files.read()), watched)
            });
            match work.await {
                Ok((Some(Ok(acceptor)), back)) => {
                    tracing::info!(file = %self.certificate.display(), "read the certificate again");
                    // It fails only if the server is gone.
                    let _ = current.send(acceptor);
                    watched = back;
                }
                Ok((Some(Err(error)), back)) => {
                    tracing::error!(%error, "the certificate in force stays as it is");
                    watched = back;
                }
                Ok((None, back)) => watched = back,
                Err(error) => {
                    return tracing::error!(%error, "certificates can't be read any more: restart this gateway");
                }
            }
        }
    }
}

/// Waits for the next one; for ever if there will be none.
async fn next_hangup(hangups: &mut watch::Receiver<()>) {
    if hangups.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn invalid(setting: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> InvalidCertificate {
    move |cause| InvalidCertificate::File { setting, path: path.to_owned(), cause }
}

fn in_words(cause: &pem::Error) -> String {
    match cause {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => {
            "there is none in it: it has to be in PEM, such as -----BEGIN CERTIFICATE----- or, not encrypted, -----BEGIN PRIVATE KEY-----"
                .to_owned()
        }
        other => other.to_string(),
    }
}
