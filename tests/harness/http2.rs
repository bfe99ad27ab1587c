//! An upstream that speaks HTTP/2 over TLS, and whose connections can be silenced or ended.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// An upstream over HTTP/2 and TLS. What it answers depends on the path:
///
/// | path | answer |
/// | --- | --- |
/// | `/slow/<ms>` | 200 after `ms` |
/// | `/refuse-once/<key>` | the first stream of each key is refused (`REFUSED_STREAM`), later ones get 200 |
/// | `/goaway/<key>` | 200; the first of each key also tells the client to go away (`GOAWAY`) once its streams have ended |
/// | `/abort/<key>` | the first of each key ends its connection at once, and every stream on it, with a `GOAWAY` (`ENHANCE_YOUR_CALM`) |
/// | `/cut/<key>` | the first of each key closes its connection without a word |
/// | anything else | 200 |
#[derive(Debug)]
pub struct Http2Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    folder: TempDir,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// The number of streams that a connection may have at a time.
    max_streams: u32,
    calls: Mutex<Vec<Http2Call>>,
    /// How many connections there were.
    connections: watch::Sender<usize>,
    /// Connections below this number say nothing more, although they stay open.
    silent_below: watch::Sender<usize>,
    /// How many of the next connections are told to go away before their first call is processed.
    turned_away: AtomicUsize,
}

/// A call that arrived.
#[derive(Debug, Clone)]
pub struct Http2Call {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its path.
    pub path: String,
    /// The bytes of its body.
    pub body: usize,
}

impl Http2Upstream {
    /// Starts one.
    pub async fn start() -> Self {
        Self::with_max_streams(100).await
    }

    /// Starts one whose connections have that many streams at a time.
    pub async fn with_max_streams(max_streams: u32) -> Self {
        Self::launch(max_streams, &["localhost", "127.0.0.1"], 4096).await
    }

    /// Starts one whose certificate is for these names, and valid until that year.
    pub async fn certified(names: &[&str], until: i32) -> Self {
        Self::launch(100, names, until).await
    }

    async fn launch(max_streams: u32, names: &[&str], until: i32) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("these are names");
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key_pair = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key_pair).expect("a certificate can be made");
        let folder = tempfile::tempdir().expect("the temp folder is writable");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("the temp folder is writable");
        let key = PrivateKeyDer::try_from(key_pair.serialize_der()).expect("a key that was just made");
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            max_streams,
            calls: Mutex::default(),
            connections: watch::channel(0).0,
            silent_below: watch::channel(0).0,
            turned_away: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), shared.clone()));
        Self { address, shared, folder, accepting }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The file with its certificate: a worker trusts it if `SSL_CERT_FILE` names it.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The calls that arrived.
    pub fn calls(&self) -> Vec<Http2Call> {
        self.shared.calls.lock().clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Tells that many connections, from the next one on, to go away (`GOAWAY`) once their first call has arrived, which is not processed.
    pub fn turn_away(&self, connections: usize) {
        self.shared.turned_away.store(connections, Ordering::SeqCst);
    }

    /// The connections that there are say nothing more. They stay open, and the system acknowledges what arrives on them.
    pub fn silence_connections(&self) {
        self.shared.silent_below.send_replace(self.connections());
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let mut number = 0;
        shared.connections.send_modify(|count| {
            number = *count;
            *count += 1;
        });
        tokio::spawn(serve(socket, tls.clone(), number, shared.clone()));
    }
}

async fn serve(socket: TcpStream, tls: TlsAcceptor, number: usize, shared: Arc<Shared>) {
    let Ok(stream) = tls.accept(socket).await else { return };
    let take = |left: usize| left.checked_sub(1);
    if shared.turned_away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
        // The client is gone if this fails.
        let _ = go_away(stream).await;
        return;
    }
    let handshake = h2::server::Builder::new().max_concurrent_streams(shared.max_streams).handshake::<_, Bytes>(stream);
    let Ok(mut connection) = handshake.await else { return };
    let mut silent_below = shared.silent_below.subscribe();
    loop {
        tokio::select! {
            biased;
            () = silenced(&mut silent_below, number) => std::future::pending::<()>().await,
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let path = request.uri().path().to_owned();
                let is_first = !shared.calls.lock().iter().any(|call| call.path == path);
                if is_first && path.starts_with("/goaway/") {
                    connection.graceful_shutdown();
                }
                if is_first && (path.starts_with("/abort/") || path.starts_with("/cut/")) {
                    shared.calls.lock().push(Http2Call { connection: number, path: path.clone(), body: 0 });
                    if path.starts_with("/cut/") {
                        return;
                    }
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                tokio::spawn(answer(path, is_first, request.into_body(), respond, number, shared.clone()));
            }
        }
    }
}

/// Reads up to the first call, and says that no stream was processed (RFC 9113 section 6.8).
async fn go_away(mut stream: TlsStream<TcpStream>) -> io::Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    stream.write_all(&SETTINGS).await?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
        if head[3] == HEADERS {
            break;
        }
    }
    stream.write_all(&GOAWAY).await?;
    stream.shutdown().await
}

/// Waits until this connection is to say nothing more.
async fn silenced(silent_below: &mut watch::Receiver<usize>, number: usize) {
    let _ = silent_below.wait_for(|below| number < *below).await;
}

async fn answer(
    path: String,
    is_first: bool,
    mut incoming: RecvStream,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    shared: Arc<Shared>,
) {
    if path.starts_with("/refuse-once/") && is_first {
        shared.calls.lock().push(Http2Call { connection, path, body: 0 });
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let mut body = 0;
    while let Some(Ok(chunk)) = incoming.data().await {
        body += chunk.len();
        let _ = incoming.flow_control().release_capacity(chunk.len());
    }
    let delay = path.strip_prefix("/slow/").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    shared.calls.lock().push(Http2Call { connection, path, body });
    tokio::time::sleep(Duration::from_millis(delay)).await;
    let head = Response::builder().status(StatusCode::OK).header("content-type", "application/json");
    let response = head.body(()).expect("a valid response");
    if let Ok(mut stream) = respond.send_response(response, false) {
        let _ = stream.send_data(Bytes::from_static(br#"{"ok":true}"#), true);
    }
}
