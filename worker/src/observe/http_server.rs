//! The worker's HTTP endpoints: `/metrics`, `/healthz`, `/readyz`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::health::Health;
use super::metrics::Metrics;
use crate::config;
use crate::queue::slots::Slots;

/// What the endpoints show.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub slots: Slots,
}

/// The address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on metrics_addr {addr}: {source}; set REDIAL_METRICS_ADDR to a free address, or to port 0")]
pub struct AddressUnavailable {
    addr: SocketAddr,
    source: io::Error,
}

impl Endpoints {
    /// Binds the address and serves the endpoints until the process ends.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(self, addr: SocketAddr) -> Result<(), AddressUnavailable> {
        let listener = bind(addr).await.map_err(|source| AddressUnavailable { addr, source })?;
        let address = listener.local_addr().map_err(|source| AddressUnavailable { addr, source })?;
        tracing::info!(%address, "serving /metrics, /healthz, /readyz");
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(())
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

async fn metrics(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], endpoints.metrics.render(endpoints.slots.in_use()))
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
