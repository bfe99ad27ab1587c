//! The fleet as operators see it: `/v1/queues`, `/v1/workers`, `/v1/statistics`, and pausing queues. Nothing here reads a task.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use redial_core::fleet::queues::{BusyWorker, busy_workers};
use redial_core::queue::admin::Overview;
use redial_core::statistics::summary::StatisticsSummary;
use redial_core::{Queue, QueueName};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::params::Query;
use crate::problem::Problem;
use crate::statistics;
use crate::tasks::json_response;
use crate::tokens::{Access, Caller};

/// How many queues are shown.
const MAX_QUEUES: usize = 200;

/// A queue that the caller may look at, or change.
pub(crate) fn queue_of(gateway: &Gateway, caller: &Caller, name: &str, access: Access) -> Result<Queue, Problem> {
    caller.require_all_tasks(access)?;
    let name = caller.queue(Some(name), &gateway.config.queue)?;
    Ok(gateway.client().queue().db().queue(name))
}

/// A problem about something that is gone.
pub(crate) fn gone(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, code, detail)
}

/// An answer in JSON.
pub(crate) fn ok(json: &Value) -> Response {
    json_response(StatusCode::OK, json.to_string())
}

/// `GET /v1/access`: what the caller may do.
pub(crate) async fn access(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    Query::read(request.uri(), &[])?;
    Ok(ok(&json!({
        "access": caller.access().as_str(),
        "name": caller.name(),
        "tenant": caller.tenant(),
        "sees_fleet": caller.require_fleet(Access::Read).is_ok(),
        "default_queue": gateway.config.queue.as_str(),
    })))
}

/// The queues that the caller may know of.
async fn visible_queues(gateway: &Gateway, caller: &Caller) -> Result<Vec<QueueName>, Problem> {
    let mut names = gateway.client().queue().db().known_queues().await.map_err(Problem::core)?;
    names.insert(gateway.config.queue.clone());
    Ok(names.into_iter().filter(|name| caller.sees(name)).take(MAX_QUEUES).collect())
}

/// The same, each with its numbers.
async fn overviews(gateway: &Gateway, caller: &Caller) -> Result<Vec<(QueueName, Overview)>, Problem> {
    let names = visible_queues(gateway, caller).await?;
    gateway.client().queue().db().overviews(names).await.map_err(Problem::core)
}

/// `GET /v1/queues`: all queues and how many tasks are in each state.
pub(crate) async fn queues(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_all_tasks(Access::Read)?;
    Query::read(request.uri(), &[])?;
    let overviews = overviews(&gateway, &caller).await?;
    let now = gateway.client().queue().db().now().await.map_err(Problem::core)?;
    let queues = overviews.iter().map(|(name, at)| {
        let workers = at.workers.iter().filter(|worker| worker.lease_until > now).count();
        json!({
            "queue": name.as_str(), "paused": at.paused, "waiting": at.waiting, "active": at.active,
            "scheduled": at.scheduled, "parked": at.parked, "dead": at.dead, "completed": at.completed,
            "died": at.died, "workers": workers,
        })
    });
    Ok(ok(&json!({"now_ms": now, "queues": queues.collect::<Vec<_>>()})))
}

/// `GET /v1/workers`: all workers, and how many tasks each holds of each queue.
pub(crate) async fn workers(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Read)?;
    Query::read(request.uri(), &[])?;
    let overviews = overviews(&gateway, &caller).await?;
    let now = gateway.client().queue().db().now().await.map_err(Problem::core)?;
    let workers = busy_workers(&overviews);
    let workers = workers.iter().map(|BusyWorker { worker, lease_until, holds, protocol, release }| {
        let queues = holds.iter().map(|(queue, tasks)| json!({"queue": queue.as_str(), "tasks": tasks}));
        let queues: Vec<Value> = queues.collect();
        json!({
            "worker": worker.as_str(), "lease_until_ms": lease_until, "gone": *lease_until <= now, "queues": queues,
            "protocol": protocol, "release": release,
        })
    });
    Ok(ok(&json!({"now_ms": now, "workers": workers.collect::<Vec<_>>()})))
}

/// `GET /v1/batches`: how far the batches are that ran within a day.
pub(crate) async fn batches(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_all_tasks(Access::Read)?;
    Query::read(request.uri(), &[])?;
    let db = gateway.client().queue().db();
    let names = visible_queues(&gateway, &caller).await?;
    let now = db.now().await.map_err(Problem::core)?;
    let mut batches = Vec::new();
    for name in names {
        for progress in db.queue(name.clone()).batches().await.map_err(Problem::core)? {
            // It cannot fail: plain data.
            let mut batch = serde_json::to_value(&progress).unwrap_or_default();
            batch["queue"] = json!(name.as_str());
            batch["silent"] = json!(progress.is_silent(now));
            batches.push(batch);
        }
    }
    Ok(ok(&json!({"now_ms": now, "batches": batches})))
}

/// `GET /v1/statistics`: what the workers of all queues, or of one, counted lately.
pub(crate) async fn statistics(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_all_tasks(Access::Read)?;
    let query = Query::read(request.uri(), &["queue", "window"])?;
    let window = statistics::window(query.given("window"))?;
    let db = gateway.client().queue().db();
    let queues = match query.given("queue") {
        Some(named) => vec![caller.queue(Some(named), &gateway.config.queue)?],
        None => visible_queues(&gateway, &caller).await?,
    };
    let now = db.now().await.map_err(Problem::core)?;
    let mut sum = StatisticsSummary::new(window, now);
    for queue in queues {
        sum.add(&gateway.statistics.summary(window, now, db.queue(queue)).await.map_err(Problem::core)?);
    }
    Ok(ok(&statistics::to_json(&sum)))
}

/// `POST /v1/queues/{queue}/pause`
pub(crate) async fn pause(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    set_paused(&gateway, &caller, &queue, &parts.uri, true).await
}

/// `POST /v1/queues/{queue}/resume`
pub(crate) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    set_paused(&gateway, &caller, &queue, &parts.uri, false).await
}

async fn set_paused(
    gateway: &Gateway,
    caller: &Caller,
    queue: &str,
    uri: &http::Uri,
    paused: bool,
) -> Result<Response, Problem> {
    caller.require_all_tasks(Access::Operate)?;
    Query::read(uri, &[])?;
    let queue = caller.queue(Some(queue), &gateway.config.queue)?;
    let handle = gateway.client().queue().db().queue(queue.clone());
    let changed = if paused { handle.pause().await } else { handle.resume().await }.map_err(Problem::core)?;
    tracing::info!(queue = %queue, by = caller.name(), paused, "an operator paused or resumed a queue");
    Ok(ok(&json!({"queue": queue.as_str(), "paused": paused, "changed": changed})))
}
