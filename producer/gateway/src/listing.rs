//! What a queue holds, in pages: `/v1/queues/{queue}/tasks`, `waits` and `schedules`; and the story of one task.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use redial_core::consumer::WaitList;
use redial_core::queue::find::TaskLocation;
use redial_core::queue::list::{ListedTask, LiveState};
use redial_core::queue::waits::{MAX_WAIT_LISTS, QueueWaits};
use redial_core::schedule::{Schedule, Schedules};
use redial_core::shown::json::listed_task;
use redial_core::shown::redact;
use redial_core::{Error, Queue, TaskResult};
use serde_json::{Value, json};

use crate::dead_letters;
use crate::fleet::{ok, queue_of};
use crate::gateway::Gateway;
use crate::params::Query;
use crate::problem::Problem;
use crate::tasks::{STATE_SEARCH, TaskRequest};
use crate::tokens::{Access, Caller};

/// How many tasks a page has at most, and how far into a queue pages go.
const MAX_PAGE: usize = 200;
const MAX_SKIP: usize = 10_000_000;
/// How many thousand deadlines are looked through for wait lists.
const WAIT_LIST_SEARCH: usize = 50;
/// How much of an answer's body is shown.
const MAX_SHOWN_BODY: usize = 64 << 10;

/// `GET /v1/queues/{queue}/tasks`: a page of the tasks in a state, or of those that wait for the same thing.
pub(crate) async fn tasks(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    let query = Query::read(request.uri(), &["state", "skip", "limit", "for", "name"])?;
    let (skip, limit) = (query.number("skip", 0, MAX_SKIP)?, query.number("limit", 50, MAX_PAGE)?);
    let state = query.given("state").unwrap_or("waiting");
    if query.given("for").is_some() && state != "parked" {
        return Err(Problem::invalid("the parameter for is about tasks that are parked: add state=parked"));
    }
    // It fails only when the semaphore is closed, which it never is.
    let _permit = gateway.searches.acquire().await;
    let page: Result<Vec<ListedTask>, Error> = match state {
        "waiting" => queue.list(LiveState::Waiting, skip, limit).await,
        "scheduled" => queue.list(LiveState::Scheduled, skip, limit).await,
        "active" => queue.list(LiveState::Active, skip, limit).await,
        "parked" => parked(&queue, &query, skip, limit).await?,
        other => {
            let detail = format!("the parameter state is {other:?}: use waiting, scheduled, parked or active");
            return Err(Problem::invalid(detail));
        }
    };
    let page: Vec<Value> = page.map_err(Problem::core)?.iter().map(|listed| listed_task(listed, state)).collect();
    let next = (page.len() == limit && limit > 0).then_some(skip + limit);
    Ok(ok(&json!({"tasks": page, "next": next})))
}

async fn parked(
    queue: &Queue,
    query: &Query,
    skip: usize,
    limit: usize,
) -> Result<Result<Vec<ListedTask>, Error>, Problem> {
    let lists = match query.given("for") {
        Some(cause) => {
            let list = WaitList::named(cause, &query.text("name").unwrap_or_default());
            let wrong =
                || Problem::invalid(format!("the parameter for is {cause:?}: use limit, breaker, in_flight or memo"));
            vec![list.ok_or_else(wrong)?]
        }
        None => queue.wait_lists(WAIT_LIST_SEARCH).await.map_err(Problem::core)?,
    };
    Ok(queue.list_parked_in(&lists, skip, limit).await)
}

/// `GET /v1/queues/{queue}/waits`: why tasks of the queue wait, and how many.
pub(crate) async fn waits(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    Query::read(request.uri(), &[])?;
    waits_of(&queue).await.map(|json| ok(&json)).map_err(Problem::core)
}

async fn waits_of(queue: &Queue) -> Result<Value, Error> {
    let lists = queue.db().recent_wait_lists(MAX_WAIT_LISTS).await?;
    let QueueWaits { waiting, scheduled, lists, answers } = queue.waits(&lists).await?;
    let lists =
        lists.iter().map(|(list, tasks)| json!({"for": list.reason.as_str(), "name": list.name, "tasks": tasks}));
    let lists: Vec<Value> = lists.collect();
    Ok(json!({"scheduled": scheduled, "lists": lists, "answers": answers, "waiting": waiting}))
}

/// `GET /v1/queues/{queue}/schedules`
pub(crate) async fn schedules(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    Query::read(request.uri(), &[])?;
    let schedules = Schedules::new(queue).list().await.map_err(Problem::core)?;
    let shown = schedules.iter().map(|Schedule { name, when, next, task }| {
        json!({
            "name": name, "cron": when.cron(), "tz": when.tz().unwrap_or("UTC"), "next_ms": next,
            "task": redact::task(task.as_bytes()),
        })
    });
    Ok(ok(&json!({"schedules": shown.collect::<Vec<_>>()})))
}

/// `DELETE /v1/queues/{queue}/schedules/{name}`
pub(crate) async fn remove_schedule(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path((queue, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let removed = Schedules::new(queue).remove(&name).await.map_err(Problem::core)?;
    tracing::info!(schedule = name, by = caller.name(), removed, "an operator removed a schedule");
    Ok(ok(&json!({"name": name, "removed": removed})))
}

/// `GET /v1/tasks/{id}/story`: where a task is, what happened to it, and what belongs to it.
pub(crate) async fn story(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Access::Read)?;
    let task = TaskRequest::read(gateway.clone(), &caller, &id, &request)?;
    let story = {
        // It fails only when the semaphore is closed, which it never is.
        let _permit = gateway.searches.acquire().await;
        task.client.queue().story(&task.id, STATE_SEARCH).await.map_err(Problem::core)?
    };
    let Some(story) = story else { return Err(task.not_found()) };
    let mut json = json!({
        "id": task.id,
        "queue": task.client.queue().name().as_str(),
        "state": story.location.state(),
        "task": story.raw.as_deref().and_then(redact::task),
        "events": story.events,
        "letter": story.letter.as_ref().map(dead_letters::to_json),
        "links": {"parent": story.links.parent, "next": story.links.next, "delivery": story.links.delivery},
    });
    match story.location {
        TaskLocation::Scheduled { due } => json["due_ms"] = json!(due),
        TaskLocation::Waiting { before } => json["before"] = json!(before),
        TaskLocation::Active { worker } => json["worker"] = json!(worker.as_str()),
        TaskLocation::Complete(result) | TaskLocation::Dead(result) => json["result"] = shortened(*result),
        TaskLocation::Parked => {}
    }
    Ok(ok(&json))
}

/// A result without a body that is too large to look at.
fn shortened(mut result: TaskResult) -> Value {
    let is_cut = result.body_bytes() > MAX_SHOWN_BODY;
    if is_cut {
        (result.body, result.body_text, result.body_base64) = (None, None, None);
    }
    // It cannot fail: plain data.
    let mut json = serde_json::to_value(&result).unwrap_or_default();
    json["body_is_too_large"] = json!(is_cut);
    json
}
