//! Connections: accepting them, a bounded number at a time, and draining them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use redial::Client;
use redial_core::container;
use redial_traces::InvalidCollector;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{GatewayArgs, GatewayConfig, InvalidConfig};
use crate::gateway::Gateway;
use crate::tls::{CurrentAcceptor, GatewayCertificate, InvalidCertificate};
use crate::{connection, routes};

/// How long the responses that tell callers where to go on may take.
const DRAIN: Duration = Duration::from_secs(4);

/// How long the last spans of traces may take to their collector.
const LAST_SPANS_TIME: Duration = Duration::from_millis(400);

/// Where the settings of a gateway come from, to be read again while it runs.
#[derive(Debug, Clone, Default)]
pub struct GatewaySource {
    /// The file; `None` for the usual one, if it exists.
    pub file: Option<PathBuf>,
    /// What takes precedence over the file.
    pub args: GatewayArgs,
}

impl GatewaySource {
    /// Reads the settings.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is invalid.
    pub fn load(&self) -> Result<GatewayConfig, InvalidConfig> {
        GatewayConfig::load(self.file.as_deref(), self.args.clone())
    }
}

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
/// within five seconds. `client` says where Redis is. At each of the `hangups` it reads its settings and its certificate again.
///
/// # Errors
/// The address cannot be bound, or the certificate or the collector of traces cannot be used.
pub async fn serve(
    config: GatewayConfig,
    client: &Client,
    source: GatewaySource,
    hangups: watch::Receiver<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = config.listen;
    let mut reading = JoinSet::new();
    let tls = follow_certificate(config.certificate.clone(), hangups.clone(), &mut reading)?;
    let listener = TcpListener::bind(address).await.map_err(|cause| ServeError::Address { address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    let (drain, draining) = watch::channel(false);
    let max_connections = config.max_connections();
    let upstreams: Vec<&str> = config.access.upstreams.iter().filter_map(|target| target.name.as_deref()).collect();
    tracing::info!(%address, redis = %client.queue().db().target(), tls = tls.is_some(), upstreams = upstreams.join(","), "serving");
    if address.ip().is_loopback() && container::is_inside() {
        tracing::warn!(
            %address,
            "in a container, only the container itself reaches this address: set REDIAL_GATEWAY_LISTEN to 0.0.0.0:8080, with a token, and publish the port"
        );
    }
    let client = client.of_queue(config.queue.clone());
    let gateway = Arc::new(Gateway::new(config, client, draining.clone())?);
    tell_systemd(NotifyState::Ready);
    reading.spawn(keep_settings_current(gateway.clone(), source, hangups));
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

/// The certificate as it is from now on, if there is one. What reads it again is among `reading`.
fn follow_certificate(
    files: Option<GatewayCertificate>,
    hangups: watch::Receiver<()>,
    reading: &mut JoinSet<()>,
) -> Result<Option<CurrentAcceptor>, InvalidCertificate> {
    let Some(files) = files else { return Ok(None) };
    let (sender, current) = watch::channel(files.read()?);
    reading.spawn(files.keep_current(sender, hangups));
    Ok(Some(current))
}

/// Reads the settings again for as long as the gateway runs. Those that cannot be used change nothing.
async fn keep_settings_current(gateway: Arc<Gateway>, source: GatewaySource, mut hangups: watch::Receiver<()>) {
    while hangups.changed().await.is_ok() {
        let source = source.clone();
        // The file may be on a disk that hangs.
        match tokio::task::spawn_blocking(move || source.load()).await {
            Ok(Ok(config)) => {
                let differing = gateway.reload(config);
                tracing::info!("SIGHUP: tokens, upstreams, hosts and origins are those of the settings now");
                if !differing.is_empty() {
                    let settings = differing.join(", ");
                    tracing::warn!(settings, "these settings have changed too: restart the gateway to apply them");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "SIGHUP: the settings in force stay as they are"),
            Err(error) => tracing::error!(%error, "SIGHUP: the settings could not be read"),
        }
    }
}
