//! The server that calls go to: a real HTTP/1.1 server that misbehaves on command.
//!
//! ```no_run
//! # async fn example() {
//! use redial_tests::{Reply, Upstream};
//!
//! let upstream = Upstream::start(|request| match request.nth {
//!     0 => Reply::reset(),
//!     _ => Reply::ok().json(&serde_json::json!({"path": request.path})),
//! })
//! .await;
//! let url = upstream.url("/v1/extract?key=a");
//! # }
//! ```
//!
//! It runs on its own thread, so that a busy or blocked test neither slows it down nor distorts the arrival times that it
//! records. It is also fast (keep-alive, one write per response), because benchmarks measure against it.

mod connection;
mod reply;
mod request;
mod serve;
mod unruly;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

pub use reply::Reply;
pub use request::{Headers, Request};

use serve::{CallLog, Handler};

/// A running upstream. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    log: Arc<CallLog>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts an upstream that answers with `handler` and keeps every call.
    pub async fn start<H>(handler: H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::launch(Box::new(handler), CallLog::keeping_calls(), Ipv4Addr::LOCALHOST).await
    }

    /// The same at every address of this machine, so that each address of 127.0.0.0/8 is a host of its own.
    pub async fn on_all_addresses<H>(handler: H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::launch(Box::new(handler), CallLog::keeping_calls(), Ipv4Addr::UNSPECIFIED).await
    }

    /// Starts an upstream that only counts its calls, for benchmarks, where keeping them would cost too much.
    pub async fn quiet<H>(handler: H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::launch(Box::new(handler), CallLog::counting_only(), Ipv4Addr::LOCALHOST).await
    }

    /// The same at every address of this machine.
    pub async fn quiet_on_all_addresses<H>(handler: H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::launch(Box::new(handler), CallLog::counting_only(), Ipv4Addr::UNSPECIFIED).await
    }

    /// Starts an upstream whose behaviour depends on the path of each call:
    ///
    /// | path | answer |
    /// | --- | --- |
    /// | `/ok` | 200, `{"ok":true}` |
    /// | `/echo` | 200, `{"method","path","headers","body"}` of the call; `body` as JSON, else as text |
    /// | `/status/<n>` | status `n`, `{"status":n}` |
    /// | `/flaky/<fails>/<status>?key=…` | the first `fails` calls of each key get `status`, later ones 200 with `{"ok":true,"calls":n}` |
    /// | `/retry-after/<secs>?key=…` | the first call of each key gets 429 with `Retry-After: <secs>`, later ones 200, as above |
    /// | `/slow/<ms>` | 200 after `ms` |
    /// | `/reset` | none: the connection is reset |
    /// | `/close` | none: the connection is closed |
    /// | `/truncated` | 200 whose body ends before its `Content-Length` |
    /// | `/chunks-cut-off` | 200 whose chunked body ends without its last chunk |
    /// | `/garbage` | bytes that are not HTTP |
    /// | `/hang` | none, and the connection stays open |
    /// | `/big/<bytes>` | 200 with a body of that many `x` |
    /// | anything else | 404 |
    ///
    /// A query parameter `delay_ms=…` delays any of them.
    pub async fn unruly() -> Self {
        let paths = unruly::UnrulyPaths::default();
        Self::start(move |request| paths.answer(request)).await
    }

    async fn launch(handler: Handler, log: CallLog, at: Ipv4Addr) -> Self {
        let log = Arc::new(log);
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("upstream".to_owned())
            .spawn({
                let log = Arc::clone(&log);
                move || serve::run(handler, log, at, bound, stopped)
            })
            .expect("a thread can be started");
        Self { address: address.await.expect("loopback has a free port"), log, stop: Some(stop), thread: Some(thread) }
    }

    /// The URL of a path, with or without a query, on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Request> {
        self.log.calls()
    }

    /// The calls to one path; queries are ignored.
    pub fn calls_to(&self, path: &str) -> Vec<Request> {
        let mut calls = self.calls();
        calls.retain(|call| call.route() == path);
        calls
    }

    /// How many calls arrived.
    pub fn count(&self) -> u64 {
        self.log.count()
    }

    /// How many calls are being answered now, those of disconnected clients excluded.
    pub fn in_flight(&self) -> usize {
        self.log.in_flight()
    }

    /// The highest number of calls that were being answered at the same time.
    pub fn max_in_flight(&self) -> usize {
        self.log.max_in_flight()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.log.connections()
    }

    /// The connections that there are say nothing more. They stay open, and the system acknowledges what arrives on them.
    pub fn silence_connections(&self) {
        self.log.silence_connections();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A handler that panicked has already printed its message.
            let _ = thread.join();
        }
    }
}
