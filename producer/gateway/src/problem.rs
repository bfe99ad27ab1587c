//! What went wrong with a request, as a response: problem details (RFC 9457), with a member `error` in which the SDKs of AI APIs find
//! the message.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use redial_core::TaskId;
use serde_json::json;

/// Says whether a request makes sense again, to SDKs that retry by themselves: those of OpenAI and Anthropic.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The header with the id of the task.
pub(crate) const ID: HeaderName = HeaderName::from_static("redial-id");

/// What went wrong with a request.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    task: Option<TaskId>,
    /// In a box, because a problem is the error of most functions here.
    headers: Box<HeaderMap>,
}

impl Problem {
    /// A problem whose `code` programs rely on, and whose `detail` says to people what, where, and what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), task: None, headers: Box::default() }
    }

    /// The request is at fault.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// A call that needs Redis failed.
    pub fn redis(error: &redial::Error) -> Self {
        match error {
            redial::Error::Unreachable(_) | redial::Error::Redis(_) | redial::Error::TaskMoving(_) => {
                tracing::warn!(%error, "a request failed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "redis_unavailable", error.to_string()).retry_after(1)
            }
            redial::Error::InvalidTask { .. } => Self::new(StatusCode::BAD_REQUEST, "invalid_task", error.to_string()),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()),
        }
    }

    /// A command to Redis failed.
    pub fn core(error: redial_core::Error) -> Self {
        Self::redis(&error.into())
    }

    /// The gateway is about to end.
    pub fn draining() -> Self {
        let detail = "this gateway is shutting down. A task that was enqueued goes on: ask for its result at Location";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).retry_after(1)
    }

    /// So many requests, as many as may, do this already.
    pub fn too_many(doing: &str, max: usize) -> Self {
        let detail = format!("{max} {doing} already: come back later, or run another gateway (max_waiting)");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_waiting", detail).retry_after(2)
    }

    /// It is about a task, which goes on, and whose result will be there.
    pub fn about(mut self, id: &TaskId, location: &str) -> Self {
        self.task = Some(id.clone());
        for (name, value) in [(ID, id.as_str()), (LOCATION, location)] {
            // Both consist of characters that a header may have.
            self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        }
        self
    }

    /// It is about one of several tasks.
    pub fn of_task(mut self, index: usize) -> Self {
        self.detail = format!("task {}: {}", index + 1, self.detail);
        self
    }

    /// The same request may succeed after this many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with_header(RETRY_AFTER, seconds.into())
    }

    /// Whether an SDK should send the request again by itself.
    pub fn should_retry(self, should: bool) -> Self {
        self.with_header(SHOULD_RETRY, HeaderValue::from_static(if should { "true" } else { "false" }))
    }

    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail, task, headers } = self;
        let mut body = json!({
            "type": format!("urn:redial:problem:{code}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": detail,
            "code": code,
            "error": {"message": detail, "type": "redial_error", "code": code, "param": null},
        });
        if let Some(task) = task {
            body["task"] = json!(task);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        *response.headers_mut() = *headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
