//! A TCP proxy between two processes: it adds distance, swallows bytes, drops the replies of a server whose commands arrive, closes one
//! direction of its connections, or resets them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

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
    mode: watch::Sender<LinkMode>,
}

/// What passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Traffic {
    #[default]
    All,
    /// The server's replies are dropped.
    NoReplies,
    /// Nothing, in either direction, although connections are accepted and stay open.
    Nothing,
    /// New connections are accepted only to be closed.
    NoConnections,
}

/// A single value, so that no connection is opened between the end of a loss and the break: it would continue after a gap.
#[derive(Debug, Clone, Copy, Default)]
struct LinkMode {
    traffic: Traffic,
    /// How long each byte is on its way, in either direction.
    delay: Duration,
    /// Every increment breaks the open connections.
    breaks: u64,
    /// Whether they are reset (RST) when they break, and not closed (FIN).
    is_resetting: bool,
    /// Every increment closes the open connections towards the client alone: it can still send, and nobody replies.
    half_closes: u64,
}

impl Proxy {
    /// Starts a proxy in front of a server on this machine.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state =
            Arc::new(LinkState { lost_bytes: AtomicUsize::new(0), mode: watch::channel(LinkMode::default()).0 });
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

    /// The URL that clients of a Redis connect to.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The port that clients connect to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Drops everything that the server sends for a while, then breaks all connections. New ones work again.
    pub async fn lose_replies(&self, duration: Duration) {
        self.state.mode.send_modify(|mode| mode.traffic = Traffic::NoReplies);
        tokio::time::sleep(duration).await;
        self.break_all();
    }

    /// Puts the server this far away: each byte takes so long, in either direction, and any number are on their way at a time.
    pub fn set_delay(&self, one_way: Duration) {
        self.state.mode.send_modify(|mode| mode.delay = one_way);
    }

    /// From now on nothing passes: connections stay open and bytes are acknowledged, but none arrives. With `false` what was held back
    /// arrives.
    pub fn set_silent(&self, is_silent: bool) {
        self.state.mode.send_modify(|mode| mode.traffic = if is_silent { Traffic::Nothing } else { Traffic::All });
    }

    /// Breaks all open connections, and from now on accepts new ones only to close them, as a load balancer does whose server is gone.
    /// With `false` new ones work.
    pub fn set_closing(&self, is_closing: bool) {
        self.state.mode.send_modify(|mode| {
            mode.traffic = if is_closing { Traffic::NoConnections } else { Traffic::All };
            mode.breaks += 1;
        });
    }

    /// Breaks all open connections. New ones work.
    pub fn break_all(&self) {
        self.state.mode.send_modify(|mode| {
            if mode.traffic == Traffic::NoReplies {
                mode.traffic = Traffic::All;
            }
            mode.is_resetting = false;
            mode.breaks += 1;
        });
    }

    /// Resets (RST) all open connections. New ones work.
    pub fn reset_all(&self) {
        self.state.mode.send_modify(|mode| {
            mode.is_resetting = true;
            mode.breaks += 1;
        });
    }

    /// Closes all open connections towards the client alone: it can still send, and gets no reply. New ones work.
    pub fn half_close_all(&self) {
        self.state.mode.send_modify(|mode| mode.half_closes += 1);
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
    let opened = *mode.borrow();
    if opened.traffic == Traffic::NoConnections {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a new socket accepts options");
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let changed = |mode: &LinkMode| mode.breaks != opened.breaks || mode.half_closes != opened.half_closes;
    tokio::select! {
        () = copy(&mut from_client, &mut to_server, &state, Direction::ToServer) => {}
        () = copy(&mut from_server, &mut to_client, &state, Direction::ToClient) => {}
        _ = mode.wait_for(changed) => {}
    }
    if mode.borrow().half_closes != opened.half_closes {
        let _ = to_client.shutdown().await;
        let _ = mode.wait_for(|mode| mode.breaks != opened.breaks).await;
    }
    let now = *mode.borrow();
    if now.is_resetting && now.breaks != opened.breaks {
        for half in [to_client, to_server] {
            // A socket that is closed already cannot be reset.
            let _ = half.as_ref().set_zero_linger();
            // Dropped, it would close its direction first.
            half.forget();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Reads without end, and writes each chunk when it is due, so that a delay costs no throughput.
async fn copy(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, state: &LinkState, direction: Direction) {
    let (chunks, due) = mpsc::unbounded_channel();
    tokio::join!(read(from, chunks, state, direction), write(due, to, state));
}

async fn read(
    from: &mut OwnedReadHalf,
    chunks: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    state: &LinkState,
    direction: Direction,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mode = *state.mode.borrow();
        if mode.traffic == Traffic::NoReplies && direction == Direction::ToClient {
            state.lost_bytes.fetch_add(read, SeqCst);
        } else if chunks.send((Instant::now() + mode.delay, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}

async fn write(mut due: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>, to: &mut OwnedWriteHalf, state: &LinkState) {
    let mut mode = state.mode.subscribe();
    while let Some((at, chunk)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        if mode.wait_for(|mode| mode.traffic != Traffic::Nothing).await.is_err() || to.write_all(&chunk).await.is_err()
        {
            return;
        }
    }
}
