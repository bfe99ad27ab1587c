//! `GET /v1/tasks/{id}/events` and `GET /v1/queues/{queue}/events`: what happens to tasks, as server-sent events (WHATWG HTML, section
//! 9.2).

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_core::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use redial::{EntryId, EventPage, EventReader, TaskEvent, TaskEventReader};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use crate::gateway::Gateway;
use crate::params::since;
use crate::problem::Problem;
use crate::tasks::{STATE_SEARCH, TaskRequest};
use crate::tokens::{Access, Caller};
use crate::waiting::{WaitingPlace, deadline};

/// How long a stream may say nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What it says then, which readers ignore.
pub(crate) const KEEP_ALIVE_COMMENT: &str = ": nothing yet\n\n";
/// How many events wait for a caller that reads slowly. The others wait in Redis.
const MAX_WAITING: usize = 16;

/// Answers with what has happened to a task, and what happens until it is done.
pub(crate) async fn of_task(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Read)?;
    let task = TaskRequest::read(gateway.clone(), &caller, &id, &request)?;
    let place = gateway.place()?;
    let reader = {
        // It fails only when the semaphore is closed, which it never is.
        let _permit = gateway.searches.acquire().await;
        gateway.patiently(|| task.client.task_events(&task.id, STATE_SEARCH)).await?
    };
    Ok(respond(gateway, Source::Task(Box::new(reader.ok_or_else(|| task.not_found())?)), place))
}

/// Answers with what happens to the tasks of a queue that the caller may see: from now on, from some seconds ago, or from behind the
/// event that `Last-Event-ID` names.
pub(crate) async fn of_queue(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Read)?;
    let queue = caller.queue(Some(&queue), &gateway.config.queue)?;
    let (last, since) = (last_event_id(request.headers())?, since(request.uri())?);
    let place = gateway.place()?;
    let client = gateway.client_of(&queue);
    let after = match last {
        Some(last) => last,
        None => gateway.patiently(|| async { Ok(client.queue().events_since(since).await?) }).await?,
    };
    Ok(respond(gateway, Source::Queue(Box::new(client.events(after)), caller), place))
}

/// The id of the last event that a reader has.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<EntryId>, Problem> {
    let Some(last) = headers.get("last-event-id") else { return Ok(None) };
    let parsed = last.to_str().ok().and_then(|text| EntryId::parse(text).ok());
    let wrong = || Problem::invalid("the header Last-Event-ID is not the id of an event of this stream");
    parsed.map(Some).ok_or_else(wrong)
}

/// Where events come from.
enum Source {
    Task(Box<TaskEventReader>),
    /// Of a queue, those of tasks that this caller may see.
    Queue(Box<EventReader>, Caller),
}

impl Source {
    /// The next events as text. Only the last one of an entry has its id: a reader that lost its connection before is sent the
    /// whole entry again. `None`: there are no more.
    async fn next(&mut self) -> Option<String> {
        match self {
            Self::Task(reader) => reader.next().await.map(|event| text(&event, None)),
            Self::Queue(reader, caller) => {
                let EventPage { id, events } = reader.next().await;
                let is_visible =
                    |event: &TaskEvent| event.task.as_ref().map_or(caller.owns_all(), |id| caller.owns(id));
                let visible: Vec<TaskEvent> = events.into_iter().filter(is_visible).collect();
                let last = visible.len().saturating_sub(1);
                let texts = visible.iter().enumerate().map(|(n, event)| text(event, (n == last).then_some(id)));
                Some(texts.collect())
            }
        }
    }
}

fn text(event: &TaskEvent, id: Option<EntryId>) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    // It cannot fail: plain data.
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("{id}event: {}\ndata: {data}\n\n", event.kind.name())
}

/// The body of the response.
struct Texts(mpsc::Receiver<String>);

impl Stream for Texts {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|text| text.map(Ok))
    }
}

fn respond(gateway: Arc<Gateway>, source: Source, place: WaitingPlace) -> Response {
    let (sender, texts) = mpsc::channel(MAX_WAITING);
    tokio::spawn(async move {
        pass_on(&gateway, source, sender).await;
        drop(place);
    });
    event_stream(Texts(texts))
}

/// A response that consists of events, as text.
pub(crate) fn event_stream(texts: impl Stream<Item = Result<String, Infallible>> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(texts));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// When [`KEEP_ALIVE_COMMENT`] is due: a stream that says nothing is kept alive by it, since proxies close connections that are idle for a minute or
/// so. Whatever else is sent resets it.
pub(crate) fn keep_alive() -> Interval {
    let mut keep_alive = interval(KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive.reset();
    keep_alive
}

/// Passes events on until there are no more, the caller goes away, the gateway ends, or the time is over for which a request may wait.
/// Readers then connect again.
async fn pass_on(gateway: &Gateway, mut source: Source, texts: mpsc::Sender<String>) {
    let mut keep_alive = keep_alive();
    let mut is_over = pin!(sleep_until(deadline(gateway.config.max_wait)));
    loop {
        let text = tokio::select! {
            () = texts.closed() => return,
            () = gateway.wait_for_drain() => return,
            () = &mut is_over => return,
            _ = keep_alive.tick() => Some(KEEP_ALIVE_COMMENT.to_owned()),
            next = source.next() => next,
        };
        keep_alive.reset();
        let Some(text) = text else { return };
        if !text.is_empty() && texts.send(text).await.is_err() {
            return;
        }
    }
}
