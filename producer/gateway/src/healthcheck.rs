//! `redial serve --healthcheck`: asks the gateway on this machine whether it is ready. For containers without a shell or curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::config::GatewayConfig;
use crate::tls::InvalidCertificate;

/// How long the gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why a gateway does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum UnhealthyGateway {
    /// Port 0 is a free one, which only the gateway knows.
    #[error("it listens on {0}, a free port that is not known here: set listen to a fixed port to use --healthcheck")]
    UnknownPort(SocketAddr),
    /// The certificate by which it would be known cannot be read.
    #[error("[gateway] {0}")]
    Certificate(#[from] InvalidCertificate),
    /// Nothing answers.
    #[error("no answer from {0}: is the gateway running, with the same settings? {1}")]
    NoAnswer(SocketAddr, String),
    /// It answers that it is not ready.
    #[error("{0} answers {1} to /readyz")]
    NotReady(SocketAddr, StatusCode),
}

/// Asks `/readyz` of the gateway that has these settings.
///
/// # Errors
/// It is not ready, or cannot be asked.
pub async fn check(config: &GatewayConfig) -> Result<(), UnhealthyGateway> {
    let address = reachable(config.listen);
    if address.port() == 0 {
        return Err(UnhealthyGateway::UnknownPort(address));
    }
    let known = config.certificate.as_ref().map(|files| files.certificates()).transpose()?;
    let asked = tokio::time::timeout(TIMEOUT, ask(address, known)).await;
    let status = asked.map_err(|_| UnhealthyGateway::NoAnswer(address, format!("it took longer than {TIMEOUT:?}")))?;
    match status.map_err(|error| UnhealthyGateway::NoAnswer(address, error.to_string()))? {
        StatusCode::OK => Ok(()),
        status => Err(UnhealthyGateway::NotReady(address, status)),
    }
}

/// A gateway that listens on all addresses also listens on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(address: SocketAddr, known: Option<Vec<CertificateDer<'static>>>) -> Result<StatusCode, AnyError> {
    let stream = TcpStream::connect(address).await?;
    let Some(known) = known else { return ready(stream).await };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(KnownCertificate { known, provider });
    let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    ready(connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?).await
}

async fn ready(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<StatusCode, AnyError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz").header("host", "localhost").body(Body::empty())?;
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status()),
        ended = connection => Err(ended.err().map_or_else(|| "it closed the connection".into(), AnyError::from)),
    }
}

/// Trusts a server that has the certificate in the gateway's own file, whatever its name and whoever signed it: a client of the gateway would
/// know it by its name, and this one by its file.
#[derive(Debug)]
struct KnownCertificate {
    known: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for KnownCertificate {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.first() == Some(shown) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("it shows another certificate than the one in tls_certificate_file".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
