//! The worker's HTTP endpoints: `/metrics`, `/healthz`, `/readyz`.
//!
//! Whoever reaches them can hold up neither the worker nor another reader: there are few connections at a time, and each serves one request
//! within a few seconds.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exposition::ExpositionFormat;
use super::health::Health;
use super::metrics::{Metrics, SlotCounts};
use crate::breaker::client::BreakerClient;
use crate::config;
use crate::queue::slots::Slots;
use redial_core::served_hosts::ServedHosts;

/// What the endpoints show.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub metrics: Arc<Metrics>,
    pub breakers: Arc<BreakerClient>,
    pub health: Arc<Health>,
    pub slots: Slots,
}

/// How many connections there may be. Another one is closed at once.
const MAX_CONNECTIONS: usize = 64;
/// How long the head of a request may take, and how long a connection may take for all.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
/// How long to wait when no connection can be accepted, as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on metrics_addr {addr}: {source}; set REDIAL_METRICS_ADDR to a free address, or to port 0")]
pub struct AddressUnavailable {
    addr: SocketAddr,
    source: io::Error,
}

impl Endpoints {
    /// Binds the address and serves the endpoints, and `/metrics` only under these hosts, until the process ends.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(self, addr: SocketAddr, hosts: ServedHosts) -> Result<(), AddressUnavailable> {
        let listener = bind(addr).await.map_err(|source| AddressUnavailable { addr, source })?;
        let address = listener.local_addr().map_err(|source| AddressUnavailable { addr, source })?;
        tracing::info!(%address, "serving /metrics, /healthz, /readyz");
        let router = Router::new()
            .route("/metrics", get(metrics).layer(middleware::from_fn_with_state(Arc::new(hosts), check_host)))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(self);
        tokio::spawn(accept(listener, router));
        Ok(())
    }
}

/// Accepts connections for ever.
async fn accept(listener: TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if let Ok(permit) = connections.clone().try_acquire_owned() {
            tokio::spawn(connection(stream, router.clone(), permit));
        }
    }
}

async fn connection(stream: TcpStream, router: Router, _permit: OwnedSemaphorePermit) {
    let mut http = http1::Builder::new();
    // An idle connection would keep a place that others need.
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD).keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What ends a connection, and whether its client reads the response, is its client's business.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
}

async fn check_host(State(hosts): State<Arc<ServedHosts>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    match host.filter(|host| !hosts.serves(host)) {
        None => next.run(request).await,
        Some(host) => {
            let why = format!("this worker does not serve its metrics as {host:?}: add the name to metrics_hosts\n");
            (StatusCode::MISDIRECTED_REQUEST, why).into_response()
        }
    }
}

async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        // A second worker on the machine that does not set the address: it must not fail for that.
        Err(error) if error.kind() == ErrorKind::AddrInUse && addr == config::DEFAULT_METRICS_ADDR => {
            tracing::warn!(address = %addr, "the default address of the metrics is in use: taking a free port; REDIAL_METRICS_ADDR sets one");
            TcpListener::bind((addr.ip(), 0)).await
        }
        bound => bound,
    }
}

async fn metrics(State(endpoints): State<Endpoints>, headers: HeaderMap) -> impl IntoResponse {
    let Endpoints { metrics, breakers, slots, .. } = endpoints;
    let format = ExpositionFormat::accepted(&headers);
    let slots = SlotCounts { in_use: slots.in_use(), total: slots.total() };
    let page = metrics.render(format, slots, breakers.recent_states());
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], page)
}

async fn ready(State(endpoints): State<Endpoints>) -> (StatusCode, String) {
    match endpoints.health.check() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(reasons) => {
            let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            (StatusCode::SERVICE_UNAVAILABLE, lines.join("\n") + "\n")
        }
    }
}
