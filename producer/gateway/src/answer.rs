//! How the result of a call becomes the response to a request for an upstream.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderName, HeaderValue, StatusCode};
use redial::Completed;
use redial_core::{Reason, Source, Status, TaskId, TaskResult};

use crate::forward::add_headers;
use crate::problem::{ID, Problem, SHOULD_RETRY};

const ATTEMPTS: HeaderName = HeaderName::from_static("redial-attempts");
const SOURCE: HeaderName = HeaderName::from_static("redial-source");

/// The response that a result stands for: the upstream's, if it had the last word, and otherwise a problem.
///
/// # Errors
/// Redial did not write the result.
pub(crate) fn respond(completed: &Completed, location: &str) -> Result<Response, Problem> {
    let result = completed.result().map_err(|error| Problem::redis(&error))?;
    let (attempts, source, is_dead) = (result.attempts.len(), result.source, result.status == Status::Dead);
    let mut response = match upstream_status(&result) {
        Some(status) => from_upstream(status, result),
        None => failure(&completed.id, &result, location).into_response(),
    };
    let headers = response.headers_mut();
    if is_dead {
        // Whatever could be tried again has been.
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    headers.extend(HeaderValue::from_str(completed.id.as_str()).ok().map(|id| (ID, id)));
    headers.insert(ATTEMPTS, attempts.into());
    headers.insert(SOURCE, HeaderValue::from_static(name(source)));
    Ok(response)
}

/// The status of the upstream's answer, if that is what the call came to.
fn upstream_status(result: &TaskResult) -> Option<StatusCode> {
    let status = StatusCode::from_u16(result.http_status?).ok()?;
    let is_final = match result.status {
        Status::Ok => true,
        // A 2xx that is not good, by `ok_when`, must not look like one.
        Status::Dead => {
            matches!(result.reason, Some(Reason::Rejected | Reason::AttemptsExhausted)) && !status.is_success()
        }
    };
    is_final.then_some(status)
}

fn from_upstream(status: StatusCode, result: TaskResult) -> Response {
    let mut response = Response::new(Body::from(bytes(&result)));
    *response.status_mut() = status;
    add_headers(response.headers_mut(), result.headers.into_iter().flatten());
    response
}

/// The bytes of the upstream's answer.
pub(crate) fn bytes(result: &TaskResult) -> Vec<u8> {
    if let Some(json) = &result.body {
        return json.get().as_bytes().to_vec();
    }
    if let Some(text) = &result.body_text {
        return text.as_bytes().to_vec();
    }
    // A worker wrote it, so it is base64.
    result.body_base64.as_ref().and_then(|text| BASE64.decode(text).ok()).unwrap_or_default()
}

/// A call that came to nothing that the upstream said.
fn failure(id: &TaskId, result: &TaskResult, location: &str) -> Problem {
    let reason = result.reason.unwrap_or(Reason::OutcomeUnknown);
    let status = match reason {
        Reason::AttemptsExhausted | Reason::Expired => StatusCode::GATEWAY_TIMEOUT,
        Reason::OverBudget => StatusCode::TOO_MANY_REQUESTS,
        Reason::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::InvalidTask => StatusCode::BAD_REQUEST,
        _ => StatusCode::BAD_GATEWAY,
    };
    let detail = result.error.as_deref().unwrap_or("the call failed");
    Problem::new(status, reason.as_str(), format!("{}: {detail}", reason.as_str())).about(id, location)
}

fn name(source: Source) -> &'static str {
    match source {
        Source::Call => "call",
        Source::Cache => "cache",
        Source::Shared => "shared",
        Source::Idempotency => "idempotency",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_call_is_the_upstreams_answer_or_a_problem_by_its_reason() -> Result<(), Box<dyn std::error::Error>> {
        for (status, reason, http_status, expected) in [
            ("ok", "null", "201", 201),
            ("dead", "\"rejected\"", "404", 404),
            ("dead", "\"attempts_exhausted\"", "503", 503),
            ("dead", "\"rejected\"", "200", 502),
            ("dead", "\"attempts_exhausted\"", "null", 504),
            ("dead", "\"expired\"", "503", 504),
            ("dead", "\"over_budget\"", "null", 429),
            ("dead", "\"forbidden_target\"", "null", 502),
            ("dead", "\"idempotency_mismatch\"", "null", 422),
        ] {
            let json = format!(
                r#"{{"id":"a","status":"{status}","http_status":{http_status},"headers":{{"content-length":"9","x-a":"b"}},
                "body":{{"n":1}},"reason":{reason},"error":null,"attempts":[],"source":"cache","finished_at_ms":1,"meta":null}}"#
            );
            let completed = Completed { id: TaskId::new("a")?, json };
            let response = respond(&completed, "/v1/tasks/a").map_err(|problem| format!("{problem:?}"))?;
            assert_eq!(response.status(), expected, "{reason} {http_status}");
            assert_eq!(response.headers()["redial-source"], "cache");
            assert_eq!(response.headers().contains_key("x-should-retry"), status == "dead", "{reason}");
            let is_upstreams = response.headers().contains_key("x-a");
            assert_eq!(is_upstreams, http_status == expected.to_string(), "{reason}");
            assert!(!response.headers().contains_key("content-length"));
        }
        Ok(())
    }
}
