//! `redial-worker --healthcheck`: asks the worker on this machine whether it is ready. For containers without a shell or curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::StatusCode;

/// How long the worker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why the worker does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// There is nothing to ask.
    #[error("metrics_addr is empty, so the worker serves no /readyz: set REDIAL_METRICS_ADDR to use --healthcheck")]
    ServerOff,
    /// It is not known where to ask.
    #[error(
        "metrics_addr {0} has port 0, so the worker's port is not known here: set REDIAL_METRICS_ADDR to a fixed port to use --healthcheck"
    )]
    UnknownPort(SocketAddr),
    /// Nothing answers.
    #[error("no answer from http://{0}/readyz: is the worker running, with the same metrics_addr? {1}")]
    NoAnswer(SocketAddr, reqwest::Error),
    /// It answers that it is not ready.
    #[error("http://{0}/readyz answers {1}: {2}")]
    NotReady(SocketAddr, StatusCode, String),
}

/// Asks `/readyz` at the configured address.
///
/// # Errors
/// The worker is not ready, or cannot be asked.
pub async fn check(metrics_addr: Option<SocketAddr>) -> Result<(), Unhealthy> {
    let addr = reachable(metrics_addr.ok_or(Unhealthy::ServerOff)?);
    if addr.port() == 0 {
        return Err(Unhealthy::UnknownPort(addr));
    }
    let ask = async {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let response = client.get(format!("http://{addr}/readyz")).send().await?;
        let status = response.status();
        Ok((status, response.text().await?))
    };
    match ask.await {
        Ok((StatusCode::OK, _)) => Ok(()),
        Ok((status, body)) => Err(Unhealthy::NotReady(addr, status, body.trim_end().to_owned())),
        Err(error) => Err(Unhealthy::NoAnswer(addr, error)),
    }
}

/// The address to ask: a worker that listens on all addresses also listens on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
