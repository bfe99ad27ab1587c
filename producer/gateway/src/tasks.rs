//! `/v1/tasks`: tasks are enqueued as they are, and results read as they are.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use redial::{Cancelled, Client, Completed, TaskLocation};
use redial_core::{QueueName, TaskId};
use serde_json::{Value, json};

use crate::body;
use crate::config::GatewayConfig;
use crate::gateway::Gateway;
use crate::location::describe;
use crate::params::TaskParams;
use crate::problem::{ID, Problem};
use crate::submission::{Sender, Submission};
use crate::tokens::{Access, Caller};
use crate::waiting::{CANCEL_SEARCH, deadline};

mod many;
mod stream;

pub(crate) use stream::stream;

/// How many tasks in each state are searched for one whose state is asked.
pub(crate) const STATE_SEARCH: usize = 10_000;
/// The longest key: with the number of a task in an array, it is the `idempotency_key` of that task.
const MAX_KEY: usize = 250;
/// The characters of an id that a path has as they are.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request about a task of this queue.
pub(crate) struct TaskRequest {
    pub gateway: Arc<Gateway>,
    pub client: Client,
    queue: QueueName,
    pub id: TaskId,
    params: TaskParams,
}

/// `POST /v1/tasks`: enqueues a task, or several.
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Call)?;
    let (parts, body) = request.into_parts();
    let params = TaskParams::read(&parts.uri, &parts.headers)?;
    let queue = caller.queue(params.queue.as_deref(), &gateway.config.queue)?;
    let text = String::from_utf8(body::read(body).await?).map_err(|_| Problem::invalid("the body is not UTF-8"))?;
    let key = match parts.headers.get("idempotency-key").map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) if (1..=MAX_KEY).contains(&key.len()) => Some(key),
        Some(_) => {
            let detail = format!("the header Idempotency-Key is not 1 to {MAX_KEY} characters of printable ASCII");
            return Err(Problem::invalid(detail));
        }
    };
    let context = parts.extensions.get();
    let access = gateway.access();
    let sender = Sender { access: &access, caller: &caller, queue: &queue, context };
    let client = gateway.client_of(&queue);
    if many::is_many(&parts.headers, &text) {
        let tasks = many::submissions(&parts.headers, &text, key, sender)?;
        drop((parts, text));
        return many::create(&gateway, &client, &queue, tasks, params.wait).await;
    }
    let task = sender.submission(&text, key)?;
    // Nobody needs them while the task is made, which may take long.
    drop((parts, text));
    create_one(&gateway, &client, &queue, task, &params).await
}

async fn create_one(
    gateway: &Gateway,
    client: &Client,
    queue: &QueueName,
    task: Submission,
    params: &TaskParams,
) -> Result<Response, Problem> {
    let id = task.id().clone();
    let location = location(&gateway.config, queue, &id);
    let about = |problem: Problem| problem.about(&id, &location);
    let Some(wait) = params.wait else {
        gateway.push(client, &task).await.map_err(about)?;
        return Ok(accepted(queue, &id, &location));
    };
    let _place = gateway.place()?;
    let until = deadline(wait.min(gateway.config.max_wait));
    match gateway.push_and_wait(client, task, until).await.map_err(about)? {
        Some(completed) => Ok(result(&completed)),
        None => Ok(accepted(queue, &id, &location)),
    }
}

/// `GET /v1/tasks/{id}`: the result of a task, or its state.
pub(crate) async fn show(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Read)?;
    let task = TaskRequest::read(gateway, &caller, &id, &request)?;
    match task.existing_result().await? {
        Some(completed) => Ok(result(&completed)),
        None => task.state().await,
    }
}

/// `DELETE /v1/tasks/{id}`: cancels a task.
pub(crate) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Call)?;
    TaskRequest::read(gateway, &caller, &id, &request)?.cancel().await
}

impl TaskRequest {
    pub fn read(gateway: Arc<Gateway>, caller: &Caller, id: &str, request: &Request) -> Result<Self, Problem> {
        let params = TaskParams::read(request.uri(), request.headers())?;
        let queue = caller.queue(params.queue.as_deref(), &gateway.config.queue)?;
        let id = TaskId::new(id).map_err(|error| Problem::invalid(error.to_string()))?;
        if !caller.owns(&id) {
            return Err(not_found(&queue, &id));
        }
        Ok(Self { client: gateway.client_of(&queue), gateway, queue, id, params })
    }

    async fn existing_result(&self) -> Result<Option<Completed>, Problem> {
        let gateway = &self.gateway;
        let Some(wait) = self.params.wait else {
            return gateway.patiently(|| self.client.result(&self.id)).await;
        };
        let _place = gateway.place()?;
        let until = deadline(wait.min(gateway.config.max_wait));
        let mut results = gateway.patiently(|| self.client.wait_all([self.id.clone()])).await?;
        let location = location(&gateway.config, &self.queue, &self.id);
        gateway.next_result(&mut results, until).await.map_err(|problem| problem.about(&self.id, &location))
    }

    pub fn not_found(&self) -> Problem {
        not_found(&self.queue, &self.id)
    }

    async fn state(&self) -> Result<Response, Problem> {
        let search = {
            // It fails only when the semaphore is closed, which it never is.
            let _permit = self.gateway.searches.acquire().await;
            self.gateway.patiently(|| async { Ok(self.client.queue().find(&self.id, STATE_SEARCH).await?) }).await?
        };
        match &search.location {
            Some(TaskLocation::Complete(ended) | TaskLocation::Dead(ended)) => {
                Ok(json_response(StatusCode::OK, ended.to_line()))
            }
            None if search.cut_short.is_empty() => Err(not_found(&self.queue, &self.id)),
            _ => Ok(json_response(StatusCode::ACCEPTED, describe(&self.queue, &self.id, &search).to_string())),
        }
    }

    async fn cancel(&self) -> Result<Response, Problem> {
        let _permit = self.gateway.searches.acquire().await;
        match self.gateway.patiently(|| self.client.cancel(&self.id, CANCEL_SEARCH)).await? {
            Cancelled::Done(was) => {
                let body = json!({"id": self.id, "queue": self.queue.as_str(), "cancelled": true, "was": was.state()});
                Ok(json_response(StatusCode::OK, body.to_string()))
            }
            Cancelled::Ended(ended) => {
                let detail = format!("the task has ended already: it is {}", ended.state());
                Err(Problem::new(StatusCode::CONFLICT, "already_ended", detail))
            }
            Cancelled::NotFound(_) => Err(not_found(&self.queue, &self.id)),
        }
    }
}

fn not_found(queue: &QueueName, id: &TaskId) -> Problem {
    let detail =
        format!("{id}: never pushed to the queue {queue}, or its result has expired; ?queue= names another queue");
    Problem::new(StatusCode::NOT_FOUND, "unknown_task", detail)
}

/// Where the result of a task is.
pub(crate) fn location(config: &GatewayConfig, queue: &QueueName, id: &TaskId) -> String {
    let path = format!("/v1/tasks/{}", utf8_percent_encode(id.as_str(), PATH));
    if *queue == config.queue {
        return path;
    }
    format!("{path}?queue={}", utf8_percent_encode(queue.as_str(), PATH))
}

/// A task is on its queue, or has not ended.
pub(crate) fn accepted(queue: &QueueName, id: &TaskId, location: &str) -> Response {
    let mut response = json_response(StatusCode::ACCEPTED, pending(queue, id, location).to_string());
    for (name, value) in [(ID, id.as_str()), (LOCATION, location)] {
        // Both consist of characters that a header may have.
        response.headers_mut().extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
    response
}

fn pending(queue: &QueueName, id: &TaskId, location: &str) -> Value {
    json!({"id": id, "queue": queue.as_str(), "location": location})
}

fn result(completed: &Completed) -> Response {
    let mut response = json_response(StatusCode::OK, completed.json.clone());
    response.headers_mut().extend(HeaderValue::from_str(completed.id.as_str()).ok().map(|id| (ID, id)));
    response
}

pub(crate) fn json_response(status: StatusCode, json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Nothing is at this path.
pub(crate) async fn unknown_path(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}: see /openapi.json", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "unknown_path", detail)
}

/// This path has other methods.
pub(crate) async fn unknown_method(uri: Uri) -> Problem {
    let detail = format!("{} has no such method: see /openapi.json", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", detail)
}
