//! The upstream's thread: accepts connections, answers calls, and records them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::connection::ServerConnection;
use super::{Reply, Request};

/// Enough for a client that opens thousands of connections at once.
const BACKLOG: u32 = 4096;

pub(super) type Handler = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// Runs until `stopped` resolves; then the runtime is dropped, and every connection with it.
pub(super) fn run(
    handler: Handler,
    log: Arc<CallLog>,
    address: Ipv4Addr,
    bound: oneshot::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        let listener = listen(address).expect("this machine has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        // If the owner is already gone, `stopped` resolves at once.
        let _ = bound.send((Ipv4Addr::LOCALHOST, port).into());
        tokio::select! {
            () = accept(&listener, handler.into(), log) => {}
            _ = stopped => {}
        }
    });
}

fn listen(address: Ipv4Addr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address, 0).into())?;
    socket.listen(BACKLOG)
}

async fn accept(listener: &TcpListener, handler: Arc<dyn Fn(&Request) -> Reply + Send + Sync>, log: Arc<CallLog>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely out of file descriptors; some will be freed.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
        tokio::spawn(async move { serve_connection(stream, &*handler, &log).await });
    }
}

/// Serves one connection until either side closes it, or until it is silenced: then it stays open for as long as the upstream runs.
async fn serve_connection(stream: TcpStream, handler: &(dyn Fn(&Request) -> Reply + Send + Sync), log: &CallLog) {
    let number = log.connections.fetch_add(1, SeqCst);
    let mut silent_below = log.silent_below.subscribe();
    let mut connection = ServerConnection::new(stream);
    tokio::select! {
        biased;
        _ = silent_below.wait_for(|below| number < *below) => {}
        () = answer_calls(&mut connection, handler, log) => return,
    }
    std::future::pending::<()>().await;
}

/// Answers call after call.
async fn answer_calls(
    connection: &mut ServerConnection,
    handler: &(dyn Fn(&Request) -> Reply + Send + Sync),
    log: &CallLog,
) {
    while let Some((mut request, keep_alive)) = connection.receive().await {
        let _in_flight = log.record(&mut request);
        let reply = handler(&request);
        let is_head = request.method == http::Method::HEAD;
        // Releases the body's buffer, so that the connection can reuse it for the next call.
        drop(request);
        if !connection.send(&reply, is_head, keep_alive).await {
            return;
        }
    }
}

/// The calls so far: their number, and the calls themselves if they are kept.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    count: AtomicU64,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    calls: Option<Mutex<Vec<Request>>>,
    /// How many connections there were.
    connections: AtomicUsize,
    /// Connections below this number are silent.
    silent_below: watch::Sender<usize>,
}

impl CallLog {
    pub(super) fn keeping_calls() -> Self {
        Self { calls: Some(Mutex::default()), ..Self::default() }
    }

    pub(super) fn counting_only() -> Self {
        Self::default()
    }

    pub(super) fn calls(&self) -> Vec<Request> {
        let calls = self.calls.as_ref().expect("a quiet upstream keeps no calls");
        calls.lock().expect("nothing panics while it holds the calls").clone()
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    pub(super) fn max_in_flight(&self) -> usize {
        self.max_in_flight.load(SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    pub(super) fn silence_connections(&self) {
        self.silent_below.send_replace(self.connections());
    }

    /// Numbers and records a call, which is in flight until the returned guard is dropped.
    fn record(&self, request: &mut Request) -> InFlight<'_> {
        request.nth = self.count.fetch_add(1, SeqCst);
        let now = self.in_flight.fetch_add(1, SeqCst) + 1;
        self.max_in_flight.fetch_max(now, SeqCst);
        if let Some(calls) = &self.calls {
            calls.lock().expect("nothing panics while it holds the calls").push(request.clone());
        }
        InFlight(&self.in_flight)
    }
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
