//! Connections: accepting them, a bounded number at a time, and draining them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use redial::Client;
use redial_traces::InvalidCollector;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::GatewayConfig;
use crate::gateway::Gateway;
use crate::tls::{CurrentAcceptor, GatewayCertificate, InvalidCertificate};
use crate::{connection, routes};

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
    /// The certificate cannot be used.
    #[error("[gateway] {0}")]
    Certificate(#[from] InvalidCertificate),
}

/// Serves until `shutdown` is complete. Then it accepts no connections, tells those who wait where their results will be, and ends
/// within five seconds. `client` says where Redis is. At each of the `hangups` it reads its certificate again.
///
/// # Errors
/// The address cannot be bound, or the certificate or the collector of traces cannot be used.
pub async fn serve(
    config: GatewayConfig,
    client: &Client,
    hangups: Arc<Notify>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = config.listen;
    let (tls, _reading) = follow_certificate(config.certificate.clone(), hangups)?;
    let listener = TcpListener::bind(address).await.map_err(|cause| ServeError::Address { address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    let (drain, draining) = watch::channel(false);
    let max_connections = config.max_connections();
    let upstreams: Vec<&str> = config.upstreams.iter().filter_map(|target| target.name.as_deref()).collect();
    tracing::info!(%address, redis = %client.queue().db().target(), tls = tls.is_some(), upstreams = upstreams.join(","), "serving");
    let client = client.of_queue(config.queue.clone());
    let gateway = Arc::new(Gateway::new(config, client, draining.clone())?);
    tell_systemd(NotifyState::Ready);
    let traces = gateway.traces.clone();
    let router = routes::router(gateway);
    let connections = Arc::new(Semaphore::new(max_connections));
    tokio::select! {
        () = accept(listener, tls.as_ref(), &router, &connections, &draining) => {}
        () = shutdown => {}
    }
    tell_systemd(NotifyState::Stopping);
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

/// Tells systemd, if it started this gateway and wants to know (`Type=notify`).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told: see NOTIFY_SOCKET");
    }
}

/// Accepts connections for ever.
async fn accept(
    listener: TcpListener,
    tls: Option<&CurrentAcceptor>,
    router: &Router,
    connections: &Arc<Semaphore>,
    draining: &watch::Receiver<bool>,
) {
    loop {
        // It fails only when the semaphore is closed, which it never is.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let tls = tls.map(|current| current.borrow().clone());
                let served = connection::serve(stream, tls, router.clone(), draining.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Of one connection, or a shortage of descriptors, which passes.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The certificate as it is from now on, if there is one, and what reads it again, until it is dropped.
fn follow_certificate(
    files: Option<GatewayCertificate>,
    hangups: Arc<Notify>,
) -> Result<(Option<CurrentAcceptor>, JoinSet<()>), InvalidCertificate> {
    let mut reading = JoinSet::new();
    let Some(files) = files else {
        reading.spawn(async move {
            loop {
                hangups.notified().await;
                tracing::info!("SIGHUP: there is no certificate to read again, and the settings are read at the start");
            }
        });
        return Ok((None, reading));
    };
    let (sender, current) = watch::channel(files.read()?);
    reading.spawn(files.keep_current(sender, hangups));
    Ok((Some(current), reading))
}
