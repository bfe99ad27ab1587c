//! Which request goes where.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::dead_letters::jobs;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::{dashboard, dead_letters, events, fleet, guard, limits, listing, openapi, tasks, upstreams};

/// How long Redis may take to answer a check.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// All routes of a gateway.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/tasks", post(tasks::create))
        .route("/v1/tasks/{id}", get(tasks::show).delete(tasks::cancel))
        .route("/v1/tasks/{id}/stream", get(tasks::stream))
        .route("/v1/tasks/{id}/events", get(events::of_task))
        .route("/v1/queues/{queue}/events", get(events::of_queue))
        .route("/v1/tasks/{id}/story", get(listing::story))
        .route("/v1/access", get(fleet::access))
        .route("/v1/queues", get(fleet::queues))
        .route("/v1/workers", get(fleet::workers))
        .route("/v1/batches", get(fleet::batches))
        .route("/v1/statistics", get(fleet::statistics))
        .route("/v1/queues/{queue}/pause", post(fleet::pause))
        .route("/v1/queues/{queue}/resume", post(fleet::resume))
        .route("/v1/queues/{queue}/tasks", get(listing::tasks))
        .route("/v1/queues/{queue}/waits", get(listing::waits))
        .route("/v1/queues/{queue}/schedules", get(listing::schedules))
        .route("/v1/queues/{queue}/schedules/{name}", delete(listing::remove_schedule))
        .route("/v1/queues/{queue}/dead", get(dead_letters::list))
        .route("/v1/queues/{queue}/dead/groups", get(dead_letters::groups))
        .route("/v1/queues/{queue}/dead/{letter}", get(dead_letters::show).delete(dead_letters::delete))
        .route("/v1/queues/{queue}/dead/{letter}/replay", post(dead_letters::replay))
        .route("/v1/queues/{queue}/dead-jobs", get(jobs::list).post(jobs::start))
        .route("/v1/queues/{queue}/dead-jobs/{job}", delete(jobs::cancel))
        .route("/v1/limits", get(limits::list))
        .route("/v1/limits/{name}", get(limits::show).put(limits::set).delete(limits::unset))
        .route("/v1/limits/{name}/reset", post(limits::reset))
        .route("/v1/breakers", get(limits::breakers))
        .route("/", get(dashboard::page))
        .route("/dashboard/{file}", get(dashboard::file))
        .route("/u/{*rest}", any(upstreams::call))
        .route("/openapi.json", get(openapi_page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(tasks::unknown_path)
        .method_not_allowed_fallback(tasks::unknown_method)
        .layer(axum::middleware::from_fn_with_state(gateway.clone(), guard::admit))
        .with_state(gateway)
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut response = gateway.metrics.render(gateway.waiting_now()).into_response();
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<&'static str, Problem> {
    if gateway.is_draining() {
        return Err(Problem::draining());
    }
    let ping = tokio::time::timeout(READY_TIMEOUT, gateway.client().queue().db().ping()).await;
    match ping {
        Ok(Ok(())) => Ok("ready\n"),
        Ok(Err(error)) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "redis_unavailable", error.to_string())),
        Err(_) => {
            let detail = format!("Redis did not answer within {READY_TIMEOUT:?}");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "redis_unavailable", detail))
        }
    }
}

async fn openapi_page() -> Response {
    tasks::json_response(StatusCode::OK, openapi::document())
}
