//! Reading the body of a request, with a bound on its size and on the time that it takes.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use futures_core::Stream as _;
use http::StatusCode;
use redial_core::protocol::task::MAX_BYTES;

use crate::problem::Problem;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The whole body, of at most [`MAX_BYTES`].
///
/// # Errors
/// It is larger, takes too long, or its connection breaks.
pub(crate) async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let received = tokio::time::timeout(TIMEOUT, receive(body)).await;
    received.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {TIMEOUT:?}");
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
    })
}

async fn receive(body: Body) -> Result<Vec<u8>, Problem> {
    let mut stream = pin!(body.into_data_stream());
    let mut bytes = Vec::new();
    while let Some(piece) = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await {
        let piece = piece.map_err(|error| Problem::invalid(format!("the body cannot be read: {error}")))?;
        if bytes.len() + piece.len() > MAX_BYTES {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A body, or the task that it becomes, is larger than a queue takes.
pub(crate) fn too_large() -> Problem {
    let detail =
        format!("a request, and the task that it becomes, may have {MAX_BYTES} bytes: send a reference instead");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}
