//! `GET /v1/tasks/{id}/stream`: the answer of a task while it arrives, as server-sent events (WHATWG HTML, section 9.2).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_core::Stream;
use redial::{AnswerStream, EntryId, StreamEntry, StreamEvent};
use redial_core::stream::append::StreamRemains;
use serde_json::{Value, json};
use tokio::time::Interval;

use super::TaskRequest;
use crate::events::{KEEP_ALIVE_COMMENT, event_stream, keep_alive, last_event_id};
use crate::gateway::Gateway;
use crate::metrics::OpenStream;
use crate::problem::Problem;
use crate::tokens::{Access, Caller};
use crate::waiting::WaitingPlace;

/// Answers with the entries of a stream, from behind the one that `Last-Event-ID` names.
pub(crate) async fn stream(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Read)?;
    let after = last_event_id(request.headers())?.unwrap_or(EntryId::START);
    let task = TaskRequest::read(gateway.clone(), &caller, &id, &request)?;
    let place = gateway.place()?;
    task.require_known().await?;
    let draining = Box::pin({
        let gateway = gateway.clone();
        async move { gateway.wait_for_drain().await }
    });
    let entries = task.client.stream(&task.id, after);
    let open = gateway.metrics.stream();
    Ok(event_stream(Events { entries, keep_alive: keep_alive(), draining, is_over: false, _place: place, _open: open }))
}

impl TaskRequest {
    /// Waiting for a task that does not exist would last for ever.
    async fn require_known(&self) -> Result<(), Problem> {
        let (queue, id) = (self.client.queue(), &self.id);
        let has_begun = self.gateway.patiently(|| async { Ok(queue.stream_remains(id).await? == StreamRemains::Part) });
        if has_begun.await? || self.gateway.patiently(|| self.client.result(id)).await?.is_some() {
            return Ok(());
        }
        self.state().await.map(drop)
    }
}

/// The body of the response.
struct Events {
    entries: AnswerStream,
    keep_alive: Interval,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    _place: WaitingPlace,
    /// Counts the stream meanwhile.
    _open: OpenStream,
}

impl Stream for Events {
    type Item = Result<String, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Readers connect again, to another gateway, with the id of the last event.
        if self.is_over || self.draining.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = Pin::new(&mut self.entries).poll_next(context) {
            self.keep_alive.reset();
            self.is_over = next.as_ref().is_none_or(|entry| entry.event.is_last());
            return Poll::Ready(next.map(|entry| Ok(to_event(&entry))));
        }
        self.keep_alive.poll_tick(context).map(|_| Some(Ok(KEEP_ALIVE_COMMENT.to_owned())))
    }
}

fn to_event(entry: &StreamEntry) -> String {
    let (kind, data) = match &entry.event {
        StreamEvent::Head(head) => ("head", json!(head)),
        StreamEvent::Data(bytes) => ("data", data(bytes)),
        StreamEvent::Restart { why } => ("restart", json!({ "why": why })),
        StreamEvent::End => ("end", json!({})),
        StreamEvent::Error(failure) => ("error", json!(failure)),
    };
    format!("id: {}\nevent: {kind}\ndata: {data}\n\n", entry.id)
}

/// Bytes as text, if they are text by themselves.
fn data(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}
