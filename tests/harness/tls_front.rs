//! TLS in front of an upstream that does not speak it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Speaks TLS with clients, and passes on what they say.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    protocols: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    /// Starts one in front of an upstream.
    pub async fn before(upstream: SocketAddr, tls: TlsAcceptor) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let protocols = Arc::<Mutex<Vec<String>>>::default();
        let seen = protocols.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = tls.accept(socket).await else { return };
                    let protocol = String::from_utf8_lossy(stream.get_ref().1.alpn_protocol().unwrap_or_default());
                    seen.lock().push(protocol.into_owned());
                    if let Ok(mut inner) = TcpStream::connect(upstream).await {
                        // Ends when either side does.
                        let _ = copy_bidirectional(&mut stream, &mut inner).await;
                    }
                });
            }
        });
        Self { address, protocols, accepting }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The protocol that was agreed on, for each connection so far.
    pub fn protocols(&self) -> Vec<String> {
        self.protocols.lock().clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
