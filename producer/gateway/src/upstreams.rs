//! `ANY /u/{upstream}/{path}`: a request for an upstream is enqueued as a task, and its result is the response.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use redial::{AnswerStream, Client, EntryId, StreamEvent};
use redial_core::QueueName;
use tokio::time::{Instant, timeout_at};

use crate::forward::ForwardedRequest;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::relay::Relay;
use crate::submission::{Sender, Submission};
use crate::tasks;
use crate::tokens::{Access, Caller};
use crate::waiting::{CancelOnDrop, deadline};
use crate::{answer, body};

/// A call that is about to be made. It has nothing of the request any more: thousands wait.
struct PreparedCall {
    client: Client,
    queue: QueueName,
    task: Submission,
    is_async: bool,
    streams: bool,
    cancels_on_disconnect: bool,
}

/// Answers a request for an upstream.
pub(crate) async fn call(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Call)?;
    let place = gateway.place()?;
    let call = Box::pin(PreparedCall::read(&gateway, &caller, request)).await?;
    let PreparedCall { client, queue, task, is_async, streams, cancels_on_disconnect } = call;
    let id = task.id().clone();
    let location = tasks::location(&gateway.config, &queue, &id);
    if is_async {
        drop(place);
        gateway.push(&client, &task).await.map_err(|problem| problem.about(&id, &location))?;
        return Ok(tasks::accepted(&queue, &id, &location));
    }
    let mut cancel = CancelOnDrop::new(gateway.clone(), client.clone(), id.clone());
    if !cancels_on_disconnect {
        cancel.disarm();
    }
    if streams {
        let (entries, open) = (client.stream(&id, EntryId::START), gateway.metrics.stream());
        return Box::pin(stream(
            Relay { gateway, client, id, location, entries, cancel, _open: open, _place: place },
            task,
        ))
        .await;
    }
    let is_repeatable = task.is_repeatable();
    let outcome = gateway.push_and_wait(&client, task, deadline(gateway.config.max_wait)).await;
    cancel.disarm();
    match outcome {
        Ok(Some(completed)) => answer::respond(&completed, &location),
        Ok(None) => Err(no_answer_yet(&gateway).about(&id, &location)),
        Err(problem) => Err(interrupted(&gateway, problem, is_repeatable).about(&id, &location)),
    }
}

/// What to say if a call could not be pushed or awaited. A task that was enqueued goes on while the gateway ends: the same request makes a
/// second one of it, unless it has a key.
fn interrupted(gateway: &Gateway, problem: Problem, is_repeatable: bool) -> Problem {
    if gateway.is_draining() { problem.should_retry(is_repeatable) } else { problem }
}

fn no_answer_yet(gateway: &Gateway) -> Problem {
    let detail = format!(
        "there is no answer after {:?} (max_wait_ms). The task goes on: ask for its result at Location",
        gateway.config.max_wait
    );
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "no_answer_yet", detail).should_retry(false)
}

/// Pushes a task and passes its answer on while it arrives. What is not streamed, such as an error of the upstream, is its result.
async fn stream(mut relay: Relay, task: Submission) -> Result<Response, Problem> {
    let gateway = relay.gateway.clone();
    let is_repeatable = task.is_repeatable();
    let until = deadline(gateway.config.max_wait);
    let begun = async {
        gateway.push(&relay.client, &task).await?;
        first_entry(&gateway, &mut relay.entries, until).await
    };
    let begun = match begun.await {
        Ok(Some(StreamEvent::Head(head))) => return Ok(relay.respond(head)),
        begun => begun,
    };
    relay.cancel.disarm();
    let about = |problem: Problem| problem.about(&relay.id, &relay.location);
    begun
        .map_err(|problem| about(interrupted(&gateway, problem, is_repeatable)))?
        .ok_or_else(|| about(no_answer_yet(&gateway)))?;
    // The entry was written in the same step as the result.
    let result = gateway.patiently(|| relay.client.result(&relay.id)).await?;
    let expired = || about(Problem::new(StatusCode::BAD_GATEWAY, "no_result", "the result has expired already"));
    answer::respond(&result.ok_or_else(expired)?, &relay.location)
}

/// Waits for the entry that says how the answer begins, or that no answer will come. `None` at the deadline.
async fn first_entry(
    gateway: &Gateway,
    entries: &mut AnswerStream,
    until: Instant,
) -> Result<Option<StreamEvent>, Problem> {
    loop {
        let next = tokio::select! {
            next = timeout_at(until, entries.next()) => next,
            () = gateway.wait_for_drain() => return Err(Problem::draining()),
        };
        let Ok(next) = next else { return Ok(None) };
        match next.map(|entry| entry.event) {
            // Of an attempt of which nobody here has seen anything.
            Some(StreamEvent::Data(_) | StreamEvent::Restart { .. }) => {}
            event => return Ok(Some(event.unwrap_or(StreamEvent::End))),
        }
    }
}

impl PreparedCall {
    async fn read(gateway: &Gateway, caller: &Caller, request: Request) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let access = gateway.access();
        let forwarded = ForwardedRequest::read(&parts, &access, caller)?;
        let queue = caller.queue(forwarded.queue(), &gateway.config.queue)?;
        let body = body::read(body).await?;
        let streams = forwarded.streams(&body);
        let context = parts.extensions.get();
        let sender = Sender { access: &access, caller, queue: &queue, context };
        let task = forwarded.submission(&body, streams, sender)?;
        Ok(Self {
            client: gateway.client_of(&queue),
            task,
            is_async: forwarded.is_async(),
            streams,
            cancels_on_disconnect: forwarded.cancels_on_disconnect(),
            queue,
        })
    }
}
