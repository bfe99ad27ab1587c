//! One connection: TLS, HTTP/1.1 or HTTP/2, and for how long it may be silent.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::HTTP2;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long a connection may be idle before it: longer than the pools of the usual HTTP
/// clients keep one, so that they seldom use one that is about to be closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The largest buffer of a connection, which is also the most that the head of a request may have. A connection that waits keeps it.
const MAX_BUFFER: u32 = 64 << 10;
/// How many requests an HTTP/2 connection may have at a time.
const MAX_STREAMS: u32 = 250;
/// How often a peer is asked whether it is still there, and how long it may take to say so: an HTTP/2 connection need not be idle to be silent.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection until its peer has had enough, is silent for too long, or the gateway ends. What ends it is its peer's business.
pub(crate) async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut draining: watch::Receiver<bool>,
) {
    // Without it a response may wait for an acknowledgement. It fails only if the connection is gone.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return one_at_a_time(stream, router, draining).await };
    let Some(stream) = handshake(stream, &tls, &mut draining).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
        many_at_a_time(stream, router, draining).await;
    } else {
        one_at_a_time(stream, router, draining).await;
    }
}

async fn handshake(
    stream: TcpStream,
    tls: &TlsAcceptor,
    draining: &mut watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    let outcome = tokio::select! {
        outcome = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => outcome,
        _ = draining.wait_for(|is_draining| *is_draining) => return None,
    };
    let error = match outcome {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {HANDSHAKE_TIMEOUT:?}"),
    };
    tracing::debug!(error, "a TLS handshake failed");
    None
}

/// HTTP/1.1 (RFC 9112).
async fn one_at_a_time(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut draining: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_BUFFER as usize);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        _ = served.as_mut() => return,
        _ = draining.wait_for(|is_draining| *is_draining) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}

/// HTTP/2 (RFC 9113).
async fn many_at_a_time(stream: TlsStream<TcpStream>, router: Router, mut draining: watch::Receiver<bool>) {
    let arrivals = Arc::new(Notify::new());
    let service = TowerToHyperService::new(router);
    let counted = service_fn({
        let arrivals = arrivals.clone();
        move |request| {
            arrivals.notify_one();
            service.call(request)
        }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
    http.max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_BUFFER);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), counted));
    let mut is_used = false;
    loop {
        tokio::select! {
            _ = served.as_mut() => return,
            _ = draining.wait_for(|is_draining| *is_draining) => break,
            arrived = timeout(HEAD_TIMEOUT, arrivals.notified()) => match arrived {
                Ok(()) => is_used = true,
                // Its requests go on, and a new one makes a new connection.
                Err(_) if is_used => break,
                Err(_) => return,
            },
        }
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}
