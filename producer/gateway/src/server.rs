//! Connections: accepting them, a bounded number at a time, and draining them.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use redial::Client;
use redial_traces::InvalidCollector;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::GatewayConfig;
use crate::gateway::Gateway;
use crate::routes;

/// How long the head of a request may take, and how long a connection may be idle before it: longer than the pools of the usual HTTP
/// clients keep one, so that they seldom use one that is about to be closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The largest buffer of a connection, which is also the most that the head of a request may have. A connection that waits keeps it.
const MAX_BUFFER: usize = 64 << 10;
/// How many connections there may be besides those that wait.
const MORE_CONNECTIONS: usize = 1_000;
/// How long the responses that tell callers where to go on may take.
const DRAIN: Duration = Duration::from_secs(4);

/// How long the last spans of traces may take to their collector.
const LAST_SPANS_TIME: Duration = Duration::from_millis(400);

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {cause}; --listen sets another address")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// The collector of traces cannot be used.
    #[error(transparent)]
    Collector(#[from] InvalidCollector),
}

/// Serves until `shutdown` is complete. Then it accepts no connections, tells those who wait where their results will be, and ends
/// within five seconds. `client` says where Redis is.
///
/// # Errors
/// The address cannot be bound, or the collector of traces cannot be used.
pub async fn serve(
    config: GatewayConfig,
    client: &Client,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|cause| ServeError::Address { address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    let (drain, draining) = watch::channel(false);
    let max_connections = config.max_waiting + MORE_CONNECTIONS;
    let upstreams: Vec<&str> = config.upstreams.iter().filter_map(|target| target.name.as_deref()).collect();
    tracing::info!(%address, redis = %client.queue().db().target(), upstreams = upstreams.join(","), "serving");
    let client = client.of_queue(config.queue.clone());
    let gateway = Arc::new(Gateway::new(config, client, draining.clone())?);
    let traces = gateway.traces.clone();
    let router = routes::router(gateway);
    let connections = Arc::new(Semaphore::new(max_connections));
    tokio::select! {
        () = accept(listener, &router, &connections, &draining) => {}
        () = shutdown => {}
    }
    tracing::info!("draining");
    // It fails only if nothing listens, as when there were no connections.
    let _ = drain.send(true);
    let all = u32::try_from(max_connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN, connections.acquire_many(all)).await.is_err() {
        tracing::warn!("some connections did not take their response in time");
    }
    traces.end(LAST_SPANS_TIME).await;
    Ok(())
}

/// Accepts connections for ever.
async fn accept(
    listener: TcpListener,
    router: &Router,
    connections: &Arc<Semaphore>,
    draining: &watch::Receiver<bool>,
) {
    loop {
        // It fails only when the semaphore is closed, which it never is.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, router.clone(), draining.clone(), permit))),
            Err(error) => {
                // Of one connection, or a shortage of descriptors, which passes.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut draining: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // Without it a response may wait for an acknowledgement. It fails only if the connection is gone.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_BUFFER);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // What ends a connection is its client's business.
    tokio::select! {
        _ = served.as_mut() => return,
        _ = draining.wait_for(|is_draining| *is_draining) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}
