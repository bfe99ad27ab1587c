//! The spans of a task: one for all of it, and within it one for each attempt and one for each wait before an attempt.
//!
//! Workers take turns with a task, so the span of the task has an id that each of them derives from its serial, and whoever ends the task
//! records it. Neither bodies nor secrets are recorded, and of a URL what precedes its query.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redial_core::protocol::event::WaitCause;
use redial_core::shown::redact;
use redial_core::{Attempt, Status, TaskResult, UnixMs};
use redial_traces::{Event, KeyValue, Span, SpanKind, Status as SpanStatus, context};

use super::gen_ai;
use super::job::Job;
use super::task_trace::{TaskTrace, producers_span};
use super::types::Refusal;
use crate::http::presets::Preset;
use crate::http::types::AttemptResult;
use crate::observe::attempt_metrics::AttemptEnding;
use crate::queue::clock::millis;
use crate::queue::queue_worker::QueueWorker;

/// The trace of a task. `None` if it is not recorded.
pub fn trace_of<'a>(worker: &QueueWorker, job: &'a Job) -> Option<&'a TaskTrace> {
    job.trace.get_or_init(|| TaskTrace::of(&worker.shared.traces, &job.task, &job.header.serial)).as_deref()
}

/// The id of a task's trace, for the log: also while it is not recorded here, if the producer has one.
pub fn trace_id(worker: &QueueWorker, job: &Job) -> Option<String> {
    if let Some(trace) = trace_of(worker, job) {
        return Some(trace.id());
    }
    let parent = producers_span(&job.task);
    parent.is_valid().then(|| parent.trace_id().to_string())
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct EndedAttempt<'a> {
    pub started_at: UnixMs,
    pub took_ms: u64,
    pub ending: AttemptEnding,
    pub result: &'a AttemptResult,
    pub preset: &'a Preset,
    /// How long the task waits for the next one, if there is one.
    pub retry_in: Option<Duration>,
}

/// Records an attempt.
pub async fn attempt_ended(worker: &QueueWorker, job: &Job, trace: &TaskTrace, attempt: EndedAttempt<'_>) {
    let EndedAttempt { started_at, took_ms, ending, result, preset, retry_in } = attempt;
    let ended_at = started_at.plus(took_ms);
    let url = &job.task.url;
    let host = url.host_str().unwrap_or_default();
    let mut attributes = vec![
        KeyValue::new("http.request.method", job.task.method.to_string()),
        KeyValue::new("server.address", host.to_owned()),
        KeyValue::new("url.full", shown_url(url)),
        KeyValue::new("redial.queue", worker.name().to_owned()),
        KeyValue::new("redial.task.id", job.id.to_string()),
    ];
    attributes.extend(url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port))));
    attributes.extend(ending.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
    let earlier = job.header.state.counted + job.header.state.uncounted;
    if earlier > 0 {
        attributes.push(KeyValue::new("http.request.resend_count", i64::from(earlier)));
    }
    attributes.extend(gen_ai::attributes(&job.task, preset, result).await);
    let status = if ending.reason == "ok" {
        SpanStatus::Unset
    } else {
        let kind = ending.status.filter(|_| ending.reason != "not_ok").map(|status| status.to_string());
        attributes.push(KeyValue::new("error.type", kind.unwrap_or_else(|| ending.reason.to_owned())));
        SpanStatus::error(ending.reason)
    };
    worker.shared.traces.record(Span {
        context: trace.attempt.clone(),
        parent: trace.task.clone(),
        kind: SpanKind::Client,
        name: job.task.method.to_string().into(),
        time: (time(started_at), time(ended_at)),
        attributes,
        events: retry_in.map(|wait| wait_event(ended_at, "retry", Some(millis(wait)), None)).into_iter().collect(),
        status,
    });
}

/// Records that a task has to wait before its attempt, and for what.
pub fn held_back(worker: &QueueWorker, job: &Job, claimed_at: UnixMs, refusal: &Refusal) {
    let Some(trace) = trace_of(worker, job) else { return };
    let now = worker.queue.clock.now();
    let (cause, wait, name) = match refusal {
        Refusal::Defer { wait, not_before } => {
            (WaitCause::Time, Some((*wait).max(worker.queue.clock.until(*not_before))), None)
        }
        Refusal::Follow(_) => (WaitCause::Answer, None, None),
        Refusal::AwaitLimit(wait) => (WaitCause::Limit, None, Some(wait.limit.as_str())),
        Refusal::UpstreamBusy(_) => (WaitCause::Upstream, None, job.task.url.host_str()),
        Refusal::UpstreamDown(wait) => (WaitCause::Upstream, Some(*wait), job.task.url.host_str()),
        Refusal::Answered(..) | Refusal::Reject(..) | Refusal::LeaseLost => return,
    };
    worker.shared.traces.record(Span {
        context: context::sibling(&trace.task),
        parent: trace.task.clone(),
        kind: SpanKind::Internal,
        name: "wait".into(),
        time: (time(claimed_at), time(now)),
        attributes: vec![KeyValue::new("redial.queue", worker.name().to_owned())],
        events: vec![wait_event(now, cause.as_str(), wait.map(millis), name)],
        status: SpanStatus::Unset,
    });
}

/// Records the span of a task that ends with this result.
pub fn task_ended(worker: &QueueWorker, job: &Job, result: &TaskResult) {
    let Some(trace) = trace_of(worker, job) else { return };
    let mut attributes = vec![
        KeyValue::new("messaging.system", "redial"),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.destination.name", worker.name().to_owned()),
        KeyValue::new("messaging.message.id", job.id.to_string()),
        KeyValue::new("redial.attempts", i64::try_from(result.attempts.len()).unwrap_or(i64::MAX)),
    ];
    let status = match result.status {
        Status::Ok => SpanStatus::Unset,
        Status::Dead => {
            let reason = result.reason.map_or("", |reason| reason.as_str());
            attributes.push(KeyValue::new("error.type", reason));
            SpanStatus::error(reason)
        }
    };
    let waits = result.attempts.iter().filter_map(|attempt| {
        let Attempt { at_ms, took_ms, wait_ms, .. } = attempt;
        wait_ms.map(|wait_ms| wait_event(at_ms.plus(*took_ms), "retry", Some(wait_ms), None))
    });
    let began = job.task.enqueued_at.unwrap_or(job.header.first_seen);
    worker.shared.traces.record(Span {
        context: trace.task.clone(),
        parent: trace.parent.clone(),
        kind: SpanKind::Consumer,
        name: format!("process {}", worker.name()).into(),
        time: (time(began), time(result.finished_at_ms)),
        attributes,
        events: waits.collect(),
        status,
    });
}

fn wait_event(at: UnixMs, cause: &'static str, wait_ms: Option<u64>, name: Option<&str>) -> Event {
    let mut attributes = vec![KeyValue::new("redial.wait.cause", cause)];
    attributes.extend(wait_ms.map(|ms| KeyValue::new("redial.wait.ms", i64::try_from(ms).unwrap_or(i64::MAX))));
    attributes.extend(name.map(|name| KeyValue::new("redial.wait.for", name.to_owned())));
    Event::new("redial.wait", time(at), attributes, 0)
}

/// A URL without its login, query and fragment.
fn shown_url(url: &url::Url) -> String {
    let text = url.as_str();
    redact::url(&text[..text.find(['?', '#']).unwrap_or(text.len())])
}

fn time(at: UnixMs) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_login_query_and_fragment() -> Result<(), url::ParseError> {
        for (url, shown) in [
            ("https://api.example.com/v1/a?key=secret#x", "https://api.example.com/v1/a"),
            ("https://user:secret@h:8443/a", "https://[redacted]@h:8443/a"),
            ("http://h/#access_token=secret", "http://h/"),
        ] {
            assert_eq!(shown_url(&url::Url::parse(url)?), shown);
        }
        Ok(())
    }
}
