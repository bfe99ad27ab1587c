//! The worker's HTTP pages: `/metrics`, `/healthz`, `/readyz`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use redial_core::db::BLOCK_TIMEOUT;
use tokio::net::TcpListener;

use crate::config;
use crate::worker::Worker;

/// A worker that has not claimed for longer than this is not ready: alive is not enough. An idle one claims at least once
/// in each [`BLOCK_TIMEOUT`].
const STALE: Duration = BLOCK_TIMEOUT.saturating_mul(2).saturating_add(Duration::from_secs(1));

/// Binds the address and serves the pages until the process ends.
///
/// # Errors
/// The address can't be had.
pub async fn serve(worker: Arc<Worker>, addr: SocketAddr) -> anyhow::Result<()> {
    let listener = match TcpListener::bind(addr).await {
        // A second worker on the machine, started without a word about this: it must not fail for that.
        Err(error) if error.kind() == ErrorKind::AddrInUse && addr == config::DEFAULT_METRICS_ADDR => {
            tracing::warn!(address = %addr, "the default address of the metrics is taken: REDIAL_METRICS_ADDR gives this worker its own");
            TcpListener::bind((addr.ip(), 0)).await
        }
        bound => bound,
    };
    let listener = listener.with_context(|| {
        format!("metrics_addr {addr} can't be had: set REDIAL_METRICS_ADDR to a free one, or to port 0")
    })?;
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz, /readyz");
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(worker);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

async fn metrics(State(worker): State<Arc<Worker>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], worker.metrics.render(worker.in_hand()))
}

async fn ready(State(worker): State<Arc<Worker>>) -> (StatusCode, String) {
    let not_ready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why + "\n");
    if worker.stop.is_cancelled() {
        return not_ready("draining: no new task is claimed".into());
    }
    let full = worker.slots.available_permits() == 0;
    // A full worker does not claim; then a heartbeat shows that Redis answers.
    let (last, stale) = if full {
        // Four beats in a lease: half of it is two of them.
        (worker.metrics.since_beat(), STALE.max(worker.config.lease / 2))
    } else {
        (worker.metrics.since_claim(), STALE)
    };
    match last {
        None => not_ready("no claim was answered yet".into()),
        Some(last) if last > stale => not_ready(format!("Redis has not answered for {} s", last.as_secs())),
        Some(_) => (StatusCode::OK, "ready\n".into()),
    }
}
