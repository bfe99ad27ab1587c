//! Which request goes where.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::{events, guard, openapi, tasks, upstreams};

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
