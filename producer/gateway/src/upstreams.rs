//! `ANY /u/{upstream}/{path}`: a request for an upstream is enqueued as a task, and its result is the response.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use redial::Client;
use redial_core::QueueName;

use crate::forward::ForwardedRequest;
use crate::gateway::Gateway;
use crate::problem::Problem;
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
    let PreparedCall { client, queue, task, is_async, cancels_on_disconnect } = call;
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
    let is_repeatable = task.is_repeatable();
    let outcome = gateway.push_and_wait(&client, task, deadline(gateway.config.max_wait)).await;
    cancel.disarm();
    match outcome {
        Ok(Some(completed)) => answer::respond(&completed, &location),
        Ok(None) => {
            let detail = format!(
                "there is no answer after {:?} (max_wait_ms). The task goes on: ask for its result at Location",
                gateway.config.max_wait
            );
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "no_answer_yet", detail)
                .should_retry(false)
                .about(&id, &location))
        }
        // A task that was enqueued goes on: the same request makes a second one of it, unless it has a key.
        Err(problem) if gateway.is_draining() => Err(problem.should_retry(is_repeatable).about(&id, &location)),
        Err(problem) => Err(problem.about(&id, &location)),
    }
}

impl PreparedCall {
    async fn read(gateway: &Gateway, caller: &Caller, request: Request) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let forwarded = ForwardedRequest::read(&parts, &gateway.config, caller)?;
        let queue = caller.queue(forwarded.queue(), &gateway.config.queue)?;
        let body = body::read(body).await?;
        let task = forwarded.submission(&body, Sender { config: &gateway.config, caller, queue: &queue })?;
        Ok(Self {
            client: gateway.client_of(&queue),
            task,
            is_async: forwarded.is_async(),
            cancels_on_disconnect: forwarded.cancels_on_disconnect(),
            queue,
        })
    }
}
