//! The stream of a task: its answer is appended while it arrives. Most tasks have none.

pub mod progress;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redial_core::protocol::stream::{AnswerHead, head_data, restart_data};
use redial_core::protocol::task::OnBreak;
use redial_core::stream::append::{Appended, StreamAppend, StreamCursor, StreamPart, StreamRemains};
use redial_core::{Reason, Status, TaskResult};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::job::{Job, kept_headers};
use super::policy::classify::Outcome;
use super::refused::Place;
use super::types::Refusal;
use crate::http::relay::BodyPiece;
use crate::http::types::AttemptResult;
use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use progress::StreamProgress;

/// Bytes that follow each other closely are appended together: those of this long, or so many.
const BATCH_TIME: Duration = Duration::from_millis(20);
const BATCH_BYTES: usize = 16 << 10;
/// The most bytes of one command, when Redis is slower than the upstream.
const MAX_APPEND_BYTES: usize = 256 << 10;
/// How long the reading of a response waits for Redis. After that the rest of it is appended when it is complete.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than its result and one attempt the stream of a running task is kept: as long as an upstream may ask to wait.
const LIVE_TTL: Duration = Duration::from_secs(3600);

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppendOutcome {
    Done,
    /// Redis did not answer in time.
    Late,
    /// It will never be.
    Never,
}

/// Appends the answers of one task.
struct Appender<'a> {
    worker: &'a QueueWorker,
    place: Place<'a>,
    job: &'a Job,
    progress: &'a Mutex<StreamProgress>,
}

/// Whether an earlier delivery has appended a part of an answer, and no other may follow. Its worker was killed, or was cut off.
///
/// # Errors
/// So it is.
pub async fn check(worker: &QueueWorker, job: &Job) -> Result<(), Refusal> {
    if job.stream.is_none() || job.task.on_break == OnBreak::Restart {
        return Ok(());
    }
    let look = || worker.redis_queue().stream_remains(&job.id);
    match worker.queue.retry.retry("stream_remains", look).await {
        Ok(StreamRemains::Part) => {
            Err(Refusal::Reject(Reason::OutcomeUnknown, broken("the worker that made the call was lost")))
        }
        // What Redis refuses about the stream does not stop the call.
        Ok(StreamRemains::Nothing) | Err(NotStored::Refused(_)) => Ok(()),
        Err(NotStored::Aborted) => Err(Refusal::LeaseLost),
    }
}

/// What an attempt means when a part of its answer is in the stream: readers have acted on that, so that there is another attempt only if
/// the task allows it.
pub fn outcome(job: &Job, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Retry { error, .. } if job.task.on_break == OnBreak::Fail && job.has_streamed() => {
            Outcome::Dead { reason: Reason::OutcomeUnknown, error: broken(&error) }
        }
        other => other,
    }
}

/// Why a task is dead whose answer broke off.
pub fn broken(why: &str) -> String {
    format!("{why}; a part of the answer is in the stream already, and on_break \"fail\" forbids another call")
}

/// Tells readers to forget what came, if anything did. If that fails, the next delivery tells them.
pub async fn restart(worker: &QueueWorker, job: &Job, why: &str) {
    let Some(progress) = job.stream.as_ref().filter(|_| job.has_streamed()) else { return };
    let appender = Appender { worker, place: Place::Held(&worker.queue.consumer), job, progress };
    let data = restart_data(why);
    let parts = [StreamPart::Restart(&data)];
    // A batch of which nothing is known may have these ids.
    let is_sure = progress.lock().unsure == 0;
    if is_sure {
        let _ = timeout(PATIENCE, appender.send(&parts)).await;
    }
}

/// Appends a response while it arrives. The first bytes go at once, and what follows closely goes together. If Redis does not answer
/// for a while, the rest is left for [`complete`].
pub async fn append_arriving(
    worker: &QueueWorker,
    job: &Job,
    progress: &Mutex<StreamProgress>,
    mut pieces: Receiver<BodyPiece>,
) {
    let appender = Appender { worker, place: Place::Held(&worker.queue.consumer), job, progress };
    let mut next = Instant::now();
    let mut head = None;
    while let Some(piece) = pieces.recv().await {
        let mut bytes = Vec::new();
        take(piece, &mut head, &mut bytes);
        while bytes.len() < BATCH_BYTES {
            let Ok(Some(piece)) = timeout_at(next, pieces.recv()).await else { break };
            take(piece, &mut head, &mut bytes);
        }
        while bytes.len() < MAX_APPEND_BYTES
            && let Ok(piece) = pieces.try_recv()
        {
            take(piece, &mut head, &mut bytes);
        }
        if bytes.is_empty() {
            continue;
        }
        next = Instant::now() + BATCH_TIME;
        for bytes in bytes.chunks(MAX_APPEND_BYTES) {
            if appender.append(head.as_deref(), bytes, Some(PATIENCE)).await != AppendOutcome::Done {
                return;
            }
        }
    }
}

fn take(piece: BodyPiece, head: &mut Option<String>, bytes: &mut Vec<u8>) {
    match piece {
        BodyPiece::Head(status, headers) => {
            *head = Some(head_data(&AnswerHead { status, headers: kept_headers(&headers) }));
        }
        BodyPiece::Data(more) => bytes.extend_from_slice(&more),
    }
}

/// Appends what is missing of a complete response.
pub async fn complete(worker: &QueueWorker, job: &Job, result: &AttemptResult) {
    let Ok(response) = result else { return };
    let head = || AnswerHead { status: response.status, headers: kept_headers(&response.headers) };
    append_rest(worker, Place::Held(&worker.queue.consumer), job, head, &response.body).await;
}

/// Appends an answer that a memo kept, and notes in the result if that fails.
pub async fn append_kept(worker: &QueueWorker, place: Place<'_>, job: &Job, result: &mut TaskResult) {
    if job.stream.is_none() || result.status != Status::Ok {
        return;
    }
    let status = result.http_status.unwrap_or_default();
    let head = AnswerHead { status, headers: result.headers.clone().unwrap_or_default() };
    append_rest(worker, place, job, || head, &result.body_as_bytes()).await;
    result.stream_error = job.stream_error();
}

async fn append_rest(
    worker: &QueueWorker,
    place: Place<'_>,
    job: &Job,
    head: impl FnOnce() -> AnswerHead,
    body: &[u8],
) {
    let Some(progress) = job.stream.as_ref() else { return };
    let appender = Appender { worker, place, job, progress };
    let (mut at, unsure) = {
        let progress = progress.lock();
        if progress.error.is_some() || (progress.bytes == body.len() && progress.cursor != StreamCursor::BEGIN) {
            return;
        }
        (progress.bytes, progress.unsure)
    };
    let head = head_data(&head());
    let mut next = if unsure > 0 { unsure } else { MAX_APPEND_BYTES };
    loop {
        let end = body.len().min(at + next);
        let bytes = body.get(at..end).unwrap_or_default();
        if appender.append(Some(&head), bytes, None).await != AppendOutcome::Done || end == body.len() {
            return;
        }
        (at, next) = (end, MAX_APPEND_BYTES);
    }
}

impl Appender<'_> {
    /// Appends bytes, behind the head if they are the first.
    async fn append(&self, head: Option<&str>, bytes: &[u8], patience: Option<Duration>) -> AppendOutcome {
        let is_first = self.progress.lock().cursor == StreamCursor::BEGIN;
        let head = head.filter(|_| is_first).map(StreamPart::Head);
        let parts: Vec<StreamPart<'_>> =
            head.into_iter().chain(bytes.chunks(BATCH_BYTES).map(StreamPart::Data)).collect();
        {
            let mut progress = self.progress.lock();
            progress.has_begun = true;
            progress.unsure = bytes.len();
        }
        let outcome = match patience {
            Some(patience) => timeout(patience, Box::pin(self.send(&parts))).await.unwrap_or(AppendOutcome::Late),
            None => Box::pin(self.send(&parts)).await,
        };
        if outcome == AppendOutcome::Done {
            let mut progress = self.progress.lock();
            progress.bytes += bytes.len();
            progress.unsure = 0;
        }
        outcome
    }

    async fn send(&self, parts: &[StreamPart<'_>]) -> AppendOutcome {
        let at = self.progress.lock().cursor;
        let task = &self.job.task;
        let ttl = task.result_ttl + task.timeout + LIVE_TTL;
        let append = StreamAppend { token: &self.job.token, id: &self.job.id, ttl, at, parts };
        let failed = |why: String| {
            tracing::warn!(task = %self.job.id, queue = self.worker.name(), why, "the stream of a task is not written any more; its result will be");
            self.progress.lock().fail(why);
            AppendOutcome::Never
        };
        match self.worker.queue.retry.retry("append_to_stream", || self.place.append_to_stream(&append)).await {
            Ok(Appended::Done(epoch)) => {
                self.progress.lock().cursor = at.after(epoch, parts.len());
                AppendOutcome::Done
            }
            Ok(Appended::LeaseLost) => {
                // It was cancelled, or another worker has it: the call is for nobody.
                self.worker.queue.held.mark_lost([self.job.token.clone()]);
                AppendOutcome::Never
            }
            Err(NotStored::Aborted) => AppendOutcome::Never,
            Ok(Appended::Gone) => failed("the stream was deleted while it was written".to_owned()),
            Err(NotStored::Refused(error)) => failed(refusal(&error)),
        }
    }
}

fn refusal(error: &Arc<redial_core::Error>) -> String {
    format!("Redis refuses to store the stream: {error}")
}
