//! An answer that is passed on while it arrives: the entries of its stream become the body of a response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_core::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use redial::{AnswerStream, Client, StreamEntry, StreamEvent, StreamFailure};
use redial_core::protocol::stream::AnswerHead;
use redial_core::{Status, TaskId};
use serde_json::json;
use tokio::sync::mpsc;

use crate::answer;
use crate::forward::add_headers;
use crate::gateway::Gateway;
use crate::metrics::OpenStream;
use crate::problem::ID;
use crate::waiting::{CancelOnDrop, WaitingPlace};

mod events;

use events::EventLines;

/// How many pieces wait for a caller that reads slowly. Behind them the stream waits in Redis.
const MAX_WAITING: usize = 4;

/// What passes an answer on to one caller.
pub(crate) struct Relay {
    pub gateway: Arc<Gateway>,
    pub client: Client,
    pub id: TaskId,
    pub location: String,
    pub entries: AnswerStream,
    /// Cancels the task if the caller goes away and asked for that.
    pub cancel: CancelOnDrop,
    /// Held for as long as the answer is passed on.
    pub _place: WaitingPlace,
    /// Counts the stream meanwhile.
    pub _open: OpenStream,
}

/// Why a body ends early. The connection is closed, so that the caller does not take a part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BrokenOff(String);

/// The body of the response.
struct Pieces(mpsc::Receiver<Result<Vec<u8>, BrokenOff>>);

impl Stream for Pieces {
    type Item = Result<Vec<u8>, BrokenOff>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl Relay {
    /// The response to an answer that has begun. It goes on until the answer is complete, the caller goes away or the gateway ends.
    pub fn respond(self, head: AnswerHead) -> Response {
        let (sender, pieces) = mpsc::channel(MAX_WAITING);
        let mut response = Response::new(Body::from_stream(Pieces(pieces)));
        // A worker received it, so it is a status.
        *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::OK);
        add_headers(response.headers_mut(), head.headers);
        response.headers_mut().extend(HeaderValue::from_str(self.id.as_str()).ok().map(|id| (ID, id)));
        let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_events = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
        let output = Output { pieces: sender, lines: is_events.then(EventLines::default), sent: 0 };
        tokio::spawn(self.pass_on(output));
        response
    }

    async fn pass_on(mut self, mut output: Output) {
        let gateway = self.gateway.clone();
        loop {
            let next = tokio::select! {
                // Dropping `self` cancels the task, if that is wanted.
                () = output.pieces.closed() => return,
                () = gateway.wait_for_drain() => {
                    self.cancel.disarm();
                    let why = format!("the gateway is shutting down; the task goes on: see {}", self.location);
                    return output.end_early("draining", &why).await;
                }
                next = self.entries.next() => next,
            };
            let outcome = match next.map(|StreamEntry { event, .. }| event) {
                // Also behind a restart that the stream has lost: what follows belongs to another attempt.
                Some(StreamEvent::Head(_)) => output.restart("the answer begins again").await,
                Some(StreamEvent::Data(bytes)) => output.data(bytes).await,
                Some(StreamEvent::Restart { why }) => output.restart(&why).await,
                Some(StreamEvent::End) => {
                    self.cancel.disarm();
                    return output.end().await;
                }
                Some(StreamEvent::Error(failure)) => {
                    self.cancel.disarm();
                    return self.fail(output, failure).await;
                }
                None => return output.end_early("broken_off", "the stream ended too early").await,
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// The stream has no complete answer. The result may have it all the same.
    async fn fail(&self, mut output: Output, failure: StreamFailure) {
        if failure.status == Status::Ok
            && let Ok(Some(completed)) = self.gateway.patiently(|| self.client.result(&self.id)).await
            && let Ok(result) = completed.result()
            && let Some(rest) = answer::bytes(&result).get(output.sent..)
        {
            if output.data(rest.to_vec()).await.is_ok() {
                output.end().await;
            }
            return;
        }
        let code = failure.reason.map_or("broken_off", |reason| reason.as_str());
        output.end_early(code, &failure.error).await;
    }
}

/// The caller went away.
struct CallerGone;

/// Where the pieces of an answer go.
struct Output {
    pieces: mpsc::Sender<Result<Vec<u8>, BrokenOff>>,
    /// Of an answer that consists of events: only whole ones are passed on, so that whatever follows is understood.
    lines: Option<EventLines>,
    /// How many bytes of the answer there were since it began.
    sent: usize,
}

impl Output {
    async fn data(&mut self, bytes: Vec<u8>) -> Result<(), CallerGone> {
        self.sent += bytes.len();
        let ready = match &mut self.lines {
            Some(lines) => lines.add(&bytes),
            None => bytes,
        };
        self.send(ready).await
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), CallerGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pieces.send(Ok(bytes)).await.map_err(|_| CallerGone)
    }

    /// Another attempt begins: an event says so. Without events nobody could tell the two apart.
    async fn restart(&mut self, why: &str) -> Result<(), CallerGone> {
        if self.sent == 0 {
            return Ok(());
        }
        self.sent = 0;
        let Some(lines) = &mut self.lines else {
            let broken = BrokenOff(format!("the answer broke off, and there is another attempt: {why}"));
            let _ = self.pieces.send(Err(broken)).await;
            return Err(CallerGone);
        };
        lines.forget();
        let event = format!("event: redial.restart\ndata: {}\n\n", json!({"type": "redial.restart", "why": why}));
        self.send(event.into_bytes()).await
    }

    async fn end(mut self) {
        if let Some(lines) = &mut self.lines {
            let rest = lines.take_rest();
            // If the caller has gone, nobody needs it.
            let _ = self.send(rest).await;
        }
    }

    /// Ends with an event that SDKs raise as an error, or else breaks the connection off.
    async fn end_early(self, code: &str, why: &str) {
        let last = if self.lines.is_some() {
            let error = json!({"message": why, "type": "redial_error", "code": code, "param": null});
            Ok(format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error})).into_bytes())
        } else {
            Err(BrokenOff(why.to_owned()))
        };
        let _ = self.pieces.send(last).await;
    }
}
