//! A TCP proxy between a worker and its Redis that can drop replies: commands arrive and are executed, but their replies never
//! arrive, and the connections break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards bytes between its clients and one server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<LinkState>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct LinkState {
    lost_bytes: AtomicUsize,
    mode: watch::Sender<ReplyMode>,
}

/// A single value, so that no connection is opened between the end of a loss and the break: it would continue after a gap.
#[derive(Debug, Clone, Copy, Default)]
struct ReplyMode {
    is_losing: bool,
    /// Every increment breaks the open connections.
    breaks: u64,
}

impl Proxy {
    /// Starts a proxy in front of a server on this machine.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state =
            Arc::new(LinkState { lost_bytes: AtomicUsize::new(0), mode: watch::channel(ReplyMode::default()).0 });
        let accepting = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(forward(client, port, state.clone()));
                }
            }
        });
        Self { address, state, accepting }
    }

    /// The URL that clients connect to.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Drops everything that the server sends for a while, then breaks all connections. New ones work again.
    pub async fn lose_replies(&self, duration: Duration) {
        self.state.mode.send_modify(|mode| mode.is_losing = true);
        tokio::time::sleep(duration).await;
        self.break_all();
    }

    fn break_all(&self) {
        self.state.mode.send_modify(|mode| *mode = ReplyMode { is_losing: false, breaks: mode.breaks + 1 });
    }

    /// How many bytes of the server's replies were lost so far.
    pub fn lost_bytes(&self) -> usize {
        self.state.lost_bytes.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.break_all();
    }
}

async fn forward(client: TcpStream, port: u16, state: Arc<LinkState>) {
    let mut mode = state.mode.subscribe();
    let breaks = mode.borrow().breaks;
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a new socket accepts options");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, None) => {}
        () = copy(from_server, to_client, Some(&state)) => {}
        _ = mode.wait_for(|mode| mode.breaks != breaks) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Option<&LinkState>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(state) = state.filter(|state| state.mode.borrow().is_losing) {
            state.lost_bytes.fetch_add(read, SeqCst);
        } else if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
