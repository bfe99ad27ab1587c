//! What is recorded of a task's story for those who watch it.

use std::sync::Arc;

use redial_core::protocol::event::{TaskEvent, TaskEventKind, WaitCause};
use redial_core::{Attempt, Reason, Source, Status, TaskId, TaskResult, UnixMs};
use serde::Deserialize;

use super::job::Job;
use crate::observe::events::EventRecorder;
use crate::queue::queue_worker::QueueWorker;

/// Up to this size a stored result is read again for what its event says.
const MAX_READ_BYTES: usize = 256 << 10;
/// The longest error that an event quotes, in bytes.
const MAX_ERROR_BYTES: usize = 500;

/// A worker saw the task for the first time.
pub fn queued(worker: &QueueWorker, job: &Job) {
    // Later deliveries have tokens of their own.
    if job.token.as_str() == job.header.serial {
        let at = job.task.enqueued_at.unwrap_or(job.header.first_seen);
        record(worker, job, || (at, TaskEventKind::Queued));
    }
}

/// An attempt begins.
pub fn started(worker: &QueueWorker, job: &Job) {
    record(worker, job, || {
        let host = job.task.url.host_str().map(str::to_owned);
        (worker.queue.clock.now(), TaskEventKind::Started { attempt: attempts_made(job) + 1, host })
    });
}

/// The last attempt failed. It has been counted already.
pub fn attempt_failed(worker: &QueueWorker, job: &Job, attempt: u32) {
    record(worker, job, || {
        let last = job.header.state.attempts.last();
        let kind = TaskEventKind::AttemptFailed {
            attempt,
            http_status: last.and_then(|last| last.http_status),
            took_ms: last.map_or(0, |last| last.took_ms),
            error: shortened(last.and_then(|last| last.error.as_deref()).unwrap_or_default()),
        };
        (ended_at(last).unwrap_or_else(|| worker.queue.clock.now()), kind)
    });
}

/// The task waits from now on. `name` is that of a limit, or the upstream.
pub fn waiting(worker: &QueueWorker, job: &Job, cause: WaitCause, name: Option<&str>, until: Option<UnixMs>) {
    worker.queue.statistics.waiting(cause);
    record(worker, job, || {
        let kind = TaskEventKind::Waiting { cause, name: name.map(str::to_owned), until_ms: until };
        (worker.queue.clock.now(), kind)
    });
}

/// A task has ended with this result.
pub fn done(recorder: &Arc<EventRecorder>, result: &TaskResult) {
    recorder.record(result.id.as_ref(), || TaskEvent {
        at_ms: result.finished_at_ms,
        task: result.id.clone(),
        kind: TaskEventKind::Done {
            status: result.status,
            reason: result.reason,
            error: result.error.as_deref().map(shortened),
            source: Some(result.source),
        },
    });
}

/// What of a stored result goes into its event.
#[derive(Deserialize)]
struct StoredResult {
    status: Status,
    reason: Option<Reason>,
    error: Option<String>,
    source: Option<Source>,
    finished_at_ms: UnixMs,
}

/// A task has ended with a result that is JSON already.
pub fn done_as_stored(recorder: &Arc<EventRecorder>, id: &TaskId, json: &str) {
    recorder.record(Some(id), || {
        let read = (json.len() <= MAX_READ_BYTES).then(|| serde_json::from_str(json).ok()).flatten();
        let StoredResult { status, reason, error, source, finished_at_ms } = read.unwrap_or(StoredResult {
            status: Status::Ok,
            reason: None,
            error: None,
            source: None,
            finished_at_ms: UnixMs::local_now(),
        });
        let error = error.as_deref().map(shortened);
        let kind = TaskEventKind::Done { status, reason, error, source };
        TaskEvent { at_ms: finished_at_ms, task: Some(id.clone()), kind }
    });
}

/// How many attempts there were, counted or not.
pub fn attempts_made(job: &Job) -> u32 {
    job.header.state.counted + job.header.state.uncounted
}

fn ended_at(attempt: Option<&Attempt>) -> Option<UnixMs> {
    attempt.map(|attempt| attempt.at_ms.plus(attempt.took_ms))
}

fn record(worker: &QueueWorker, job: &Job, make: impl FnOnce() -> (UnixMs, TaskEventKind)) {
    worker.queue.events.record(Some(&job.id), || {
        let (at_ms, kind) = make();
        TaskEvent { at_ms, task: Some(job.id.clone()), kind }
    });
}

fn shortened(text: &str) -> String {
    let end = (0..=text.len().min(MAX_ERROR_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or_default()].to_owned()
}
