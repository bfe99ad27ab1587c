//! The story of a task in a worker: gate, call, classify, settle.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use redial_core::Task;
use redial_core::memo::MemoKey;
use redial_core::queue::entry::Entry;
use tokio::sync::OwnedSemaphorePermit;

use super::added::{added_at, added_headers, own_secrets};
use super::contain::contain;
use super::gate::crashes::{self, QuarantineRefusal};
use super::job::{InvalidJob, Job};
use super::policy::classify::{self, Outcome, Policy, classify};
use super::policy::judge::{Criteria, Judgement};
use super::settle::Settler;
use super::task_trace::TaskTrace;
use super::traces::{self, EndedAttempt};
use super::types::{Admission, Refusal, Turn, Verdict};
use super::{events, gate, heavy, stream};
use crate::breaker::client::upstream_of;
use crate::breaker::drain::upstream_answered;
use crate::http::answer_memory::HeldMemory;
use crate::http::own_secrets::OwnSecrets;
use crate::http::presets::Preset;
use crate::http::redirect::Hop;
use crate::http::relay::{AnswerReading, BodyRelay};
use crate::http::types::{self, AttemptResult, Failure};
use crate::in_flight::calls::CallInFlight;
use crate::limit::applied::AppliedLimit;
use crate::limit::feedback;
use crate::observe::attempt_metrics::AttemptEnding;
use crate::observe::known_names::Occurrence;
use crate::observe::statistics::CountedAttempt;
use crate::queue::clock::millis;
use crate::queue::held_tasks::HeldTask;
use crate::queue::queue_worker::QueueWorker;

/// Takes one claimed task as far as it goes now: to its end, or back to Redis for later. If that panics, the task is given up. A task that
/// waited for a limit or its upstream brings along what it has got there.
pub fn execute(worker: QueueWorker, entry: Entry, held: HeldTask, turn: Turn) -> impl Future<Output = ()> + Send {
    // Boxed, as the runtime moves a task several times, and here already, as an asynchronous function would have room for its arguments twice.
    let mut story = Box::pin(run(worker.clone(), entry, held, turn));
    async move {
        if let Err(panic) = contain(story.as_mut()).await {
            Box::pin(Settler::new(&worker).give_up_panicked(&panic)).await;
        }
    }
}

/// Thousands of these futures are alive at a time, so the rare paths are boxed: they take space only when they are taken.
async fn run(worker: QueueWorker, entry: Entry, held: HeldTask, turn: Turn) {
    let worker = &worker;
    let settler = Settler::new(worker);
    let is_plain = entry.header.crashes == 0 && entry.raw.len() <= heavy::SMALL_BYTES;
    let (mut job, _quarantine) = if is_plain {
        match parse(worker, entry) {
            Ok(job) => (job, None),
            Err(invalid) => return Box::pin(settler.bury_invalid(invalid)).await,
        }
    } else {
        match Box::pin(open_with_care(&settler, worker, entry)).await {
            Some(opened) => opened,
            None => return,
        }
    };
    job.turn = turn;
    let claimed_at = worker.queue.clock.now();
    report_ignored_fields(worker, &job.task);
    events::queued(worker, &job);

    let mut admission = match gate::pass(worker, &mut job).await {
        Verdict::Pass(admission) => admission,
        Verdict::Refuse(refusal, leads) => {
            held.begin_settling();
            traces::held_back(worker, &job, claimed_at, &refusal);
            return Box::pin(refuse(&settler, &job, &leads, refusal, held)).await;
        }
    };

    let started_at = worker.queue.clock.now();
    let in_flight = admission.call.take();
    let memory = worker.shared.answers.hold();
    let called = call(worker, &job, &admission, in_flight, &held, &memory).await;
    held.begin_settling();
    let waited = memory.waited();
    held.keep_memory(memory);
    let result = match called {
        Ok(result) => result,
        Err(Aborted::Stopping) => return Box::pin(settler.release(&job, &admission.leads, held)).await,
        Err(Aborted::LeaseLost) => return Box::pin(settler.abandon(&job, &admission.leads)).await,
        Err(Aborted::Impossible) => return Box::pin(settler.give_back(&job, admission)).await,
    };
    let took_ms = worker.queue.clock.now().since(started_at);
    let upstreams = worker.shared.config.upstreams.current();
    let preset = upstreams.preset_for(&job.task.url);
    let judgement = judge(&job.task, preset, &result).await;
    let label = label(&result, &judgement);
    let ending = AttemptEnding { reason: label, status: types::status(&result) };
    count_attempt(worker, &job, &admission, ending, took_ms);
    if let Some((permit, is_up)) = admission.permit.as_ref().zip(classify::is_up(&result, preset))
        && result.as_ref().err().is_none_or(|failure| worker.shared.breakers.is_evidence(permit, failure, &job.task))
    {
        worker.shared.breakers.record(permit, is_up, Duration::from_millis(took_ms).saturating_sub(waited));
        if let Some(upstream) = permit.recovered(is_up) {
            upstream_answered(worker, upstream);
        }
    }
    if !admission.limits.is_empty() {
        admission.limits.iter_mut().for_each(AppliedLimit::release_slot);
        Box::pin(feedback::adjust_limits(worker, &job.task, &admission.limits, preset, &result)).await;
    }

    let outcome = token_refused(&job, &admission, &result);
    let outcome = outcome.unwrap_or_else(|| classify(&result, &policy(worker, &job, &admission, preset, &judgement)));
    let outcome = stream::outcome(&job, outcome);
    if let Some(trace) = traces::trace_of(worker, &job) {
        let retry_in = if let Outcome::Retry { wait, .. } = &outcome { Some(*wait) } else { None };
        let attempt = EndedAttempt { started_at, took_ms, ending, result: &result, preset, retry_in };
        Box::pin(traces::attempt_ended(worker, &job, trace, attempt)).await;
    }
    match outcome {
        Outcome::Complete => {
            job.remember(started_at, took_ms, &result, None, None);
            if job.stream.is_some() {
                Box::pin(stream::complete(worker, &job, &result)).await;
            }
            if admission.leads.is_empty() && job.bytes_to_finish(types::bytes(&result)) <= heavy::SMALL_BYTES {
                let success = settler.success(&job, result);
                settler.complete(&job, &success, held);
            } else {
                Box::pin(settler.finish_success(&job, &admission.leads, result, held)).await;
            }
        }
        Outcome::Retry { wait, backoff, counts, error } => {
            job.remember(started_at, took_ms, &result, Some(&error), Some(millis(wait)));
            job.header.state.backoff_ms = millis(backoff);
            job.header.state.counted += u32::from(counts);
            job.header.state.uncounted += u32::from(!counts);
            if job.has_streamed() {
                Box::pin(stream::restart(worker, &job, &error)).await;
            }
            Box::pin(settler.retry(&mut job, &admission.leads, ending, wait, &error)).await;
        }
        Outcome::Dead { reason, error } => {
            job.remember(started_at, took_ms, &result, Some(&error), None);
            Box::pin(settler.finish_failure(&job, &admission.leads, reason, error, result, held)).await;
        }
    }
}

fn parse(worker: &QueueWorker, entry: Entry) -> Result<Job, InvalidJob> {
    #[cfg(debug_assertions)]
    super::debug::before_parsing(&entry.raw);
    Job::open(entry, worker.queue_name(), &worker.shared.config)
}

/// Parses a task that may have crashed a worker, or one that is large, where it blocks no other. Returns a permit as well if the task
/// has to run alone in this worker. `None`: it was settled without being parsed.
async fn open_with_care(
    settler: &Settler<'_>,
    worker: &QueueWorker,
    mut entry: Entry,
) -> Option<(Job, Option<OwnedSemaphorePermit>)> {
    match crashes::admit(worker, &mut entry).await {
        Ok(permit) => match heavy::work(entry.raw.len(), || parse(worker, entry)).await {
            Ok(job) => return Some((job, permit)),
            Err(invalid) => settler.bury_invalid(invalid).await,
        },
        Err(QuarantineRefusal::SetAside(crashes)) => settler.bury_unparsed(entry, crashes).await,
        Err(QuarantineRefusal::Wait(wait)) => settler.defer_unparsed(&entry, wait).await,
        Err(QuarantineRefusal::LeaseLost) => settler.lease_lost(None),
        Err(QuarantineRefusal::NotMarked(why)) => settler.give_up(&entry.token, &why).await,
    }
    None
}

/// The ways out of the gate other than through it.
async fn refuse(settler: &Settler<'_>, job: &Job, leads: &[MemoKey], refusal: Refusal, held: HeldTask) {
    match refusal {
        Refusal::Defer { wait, not_before } => settler.defer(job, leads, wait, not_before).await,
        Refusal::Answered(kept, purpose) => settler.answer_from_memo(job, leads, &kept, purpose, held).await,
        Refusal::Follow(key) => settler.park_behind_leader(job, leads, &key).await,
        Refusal::AwaitLimit(wait) => settler.park_for_limit(job, leads, *wait).await,
        Refusal::UpstreamBusy(upstream) => settler.park_while_busy(job, leads, &upstream).await,
        Refusal::UpstreamDown(wait) => settler.park_until_up(job, leads, wait).await,
        Refusal::Reject(reason, error) => settler.bury(job, leads, reason, error, held).await,
        Refusal::LeaseLost => settler.lease_lost(Some(&job.id)),
    }
}

/// Why a call was aborted.
enum Aborted {
    /// The drain's deadline has passed.
    Stopping,
    /// The task is no longer this worker's.
    LeaseLost,
    /// It did not begin: no connection could be made for want of something on this machine, or Redis kept the task waiting for so long
    /// that another one has its slot.
    Impossible,
}

/// Makes the call, unless something ends it first.
async fn call(
    worker: &QueueWorker,
    job: &Job,
    admission: &Admission,
    in_flight: Option<CallInFlight>,
    held: &HeldTask,
    memory: &HeldMemory,
) -> Result<AttemptResult, Aborted> {
    if !held.begin_call(in_flight) {
        return Err(Aborted::Impossible);
    }
    events::started(worker, job);
    count_start(worker, job);
    #[cfg(debug_assertions)]
    super::debug::before_call(&job.task.url);
    let body = admission.callback.as_ref().map(|callback| &callback.body).or(job.task.body.as_ref());
    let headers = match added_headers(worker, job, admission, body) {
        Ok(headers) => headers,
        Err(unsigned) => return Ok(Err(Failure::Other(unsigned.to_string()))),
    };
    let added_at = |hop: &Hop| added_at(worker, job, admission, body, hop);
    let secrets = own_secrets(worker, job, &headers);
    tokio::select! {
        result = exchange(worker, job, headers, body, added_at, (&secrets, memory)) => match result {
            Err(Failure::LocalShortage(_)) => {
                worker.shared.metrics.local_shortage(worker.name());
                Err(Aborted::Impossible)
            }
            result => Ok(result.map(|response| response.without(&secrets))),
        },
        () = worker.shared.abort.cancelled() => Err(Aborted::Stopping),
        () = lease_lost(worker, job, admission, held) => Err(Aborted::LeaseLost),
    }
}

/// The exchange with the upstream. If the task has a stream, its answer is appended meanwhile.
async fn exchange(
    worker: &QueueWorker,
    job: &Job,
    headers: HeaderMap,
    body: Option<&Vec<u8>>,
    added_at: impl Fn(&Hop) -> Result<HeaderMap, String>,
    (secrets, memory): (&OwnSecrets, &HeldMemory),
) -> AttemptResult {
    let http = &worker.shared.http;
    let Some(progress) = &job.stream else {
        let reading = AnswerReading { relay: None, memory };
        return http.call(&job.task, headers, body, added_at, reading).await;
    };
    let upstreams = worker.shared.config.upstreams.current();
    let criteria =
        Criteria::new(job.task.ok_when.as_ref(), job.task.retry_when.as_ref(), upstreams.preset_for(&job.task.url));
    let (relay, pieces) = BodyRelay::new(|status| criteria.may_be_good(status), secrets);
    let reading = AnswerReading { relay: Some(relay), memory };
    let call = http.call(&job.task, headers, body, added_at, reading);
    let append = stream::append_arriving(worker, job, progress, pieces);
    Box::pin(async { tokio::join!(call, append).0 }).await
}

/// Waits until the lease is lost and no memo wants the answer either. Without the lease this worker must not write a result. But a
/// memo that the task leads takes the answer all the same, and the task's next delivery finds it there, unless it was cancelled.
async fn lease_lost(worker: &QueueWorker, job: &Job, admission: &Admission, held: &HeldTask) {
    held.lease_lost().await;
    let is_cancelled = || Box::pin(worker.redis_queue().is_cancelled(&job.id));
    if !admission.leads.is_empty() && !is_cancelled().await.unwrap_or(false) {
        std::future::pending::<()>().await;
    }
}

/// Judges a response by more than its status. Most are not, and then nothing is parsed.
async fn judge(task: &Task, preset: &Preset, result: &AttemptResult) -> Judgement {
    let Ok(response) = result else { return Judgement::ByStatus };
    let criteria = Criteria::new(task.ok_when.as_ref(), task.retry_when.as_ref(), preset);
    if !criteria.apply_to(response) {
        return Judgement::ByStatus;
    }
    heavy::work(criteria.bytes_to_judge(response), || criteria.judge(response)).await
}

/// Counts how long a task waited for its first attempt: since it was pushed, or since the time before which it must not start.
fn count_start(worker: &QueueWorker, job: &Job) {
    if events::attempts_made(job) == 0 {
        let pushed = job.task.enqueued_at.unwrap_or(job.header.first_seen);
        let since = job.task.not_before(job.header.first_seen).map_or(pushed, |not_before| pushed.max(not_before));
        let delay = worker.queue.clock.now().since(since);
        worker.shared.metrics.queues.started(worker.name(), Duration::from_millis(delay));
    }
}

/// Counts an attempt for the metrics and for the statistics of the fleet.
fn count_attempt(worker: &QueueWorker, job: &Job, admission: &Admission, ending: AttemptEnding, took_ms: u64) {
    let trace = traces::trace_of(worker, job).map(TaskTrace::id);
    let attempts = &worker.shared.metrics.attempts;
    let took = Duration::from_millis(took_ms);
    let upstream = admission.permit.as_ref().map(|permit| Cow::Borrowed(permit.upstream()));
    let upstream = upstream.unwrap_or_else(|| Cow::Owned(upstream_of(&job.task.url)));
    attempts.attempt(worker.name(), &upstream, ending, took, trace);
    let AttemptEnding { reason: label, status } = ending;
    if let Some(tenant) = worker.shared.config.rules.tenant_label(&job.task) {
        worker.shared.metrics.tenant_attempt(tenant, label);
    }
    worker.queue.statistics.attempt(&upstream, CountedAttempt { status, label, took_ms });
}

/// How an attempt ended, as a value of the metric label `reason`.
fn label(result: &AttemptResult, judgement: &Judgement) -> &'static str {
    match (result, judgement) {
        (Ok(response), Judgement::Retry { .. } | Judgement::Bad(_)) if (200..300).contains(&response.status) => {
            "not_ok"
        }
        (Ok(_), Judgement::Good) => "ok",
        _ => types::label(result),
    }
}

/// What follows if an upstream refuses an access token that it may have accepted before: once for each task, another attempt with a new
/// token, uncounted. A 401 is certain not to have been carried out (RFC 9110 section 15.5.2), unless it follows a redirect that was itself
/// an answer. Another origin did not get the token.
fn token_refused(job: &Job, admission: &Admission, result: &AttemptResult) -> Option<Outcome> {
    const UNAUTHORIZED: u16 = 401;
    let token = admission.token.as_ref()?;
    let response = result.as_ref().ok().filter(|response| response.status == UNAUTHORIZED)?;
    if response.redirection.left_origin {
        return None;
    }
    token.refused();
    let state = &job.header.state;
    let was_refused = state.attempts.last().is_some_and(|last| last.http_status == Some(UNAUTHORIZED));
    (!was_refused && !response.redirection.has_acted).then(|| Outcome::Retry {
        wait: TOKEN_WAIT.mul_f64(rand::random_range(1.0..2.0)),
        backoff: Duration::from_millis(state.backoff_ms),
        counts: false,
        error: "status 401: the access token is refused; a new one is fetched".to_owned(),
    })
}

/// How long a task waits for a new token, about, in place of one that was refused.
const TOKEN_WAIT: Duration = Duration::from_millis(100);

fn policy<'a>(
    worker: &QueueWorker,
    job: &'a Job,
    admission: &Admission,
    preset: &'a Preset,
    judgement: &'a Judgement,
) -> Policy<'a> {
    let (task, state) = (&job.task, &job.header.state);
    Policy {
        retry: &task.retry,
        effect: task.effect,
        preset,
        judgement,
        has_key: task.idempotency_key.is_some(),
        counted: state.counted,
        free_waits: state.uncounted,
        max_free_waits: worker.shared.config.max_free_waits,
        is_probe: admission.permit.as_ref().is_some_and(|permit| permit.is_probe),
        previous: Duration::from_millis(state.backoff_ms),
        max_stated_wait: worker.shared.config.max_stated_wait,
        now: worker.queue.clock.now(),
        deadline: task.deadline(job.header.first_seen),
        random: rand::random(),
    }
}

/// How many ignored fields of one task are reported: one with a hundred thousand should not keep its worker busy.
const MAX_REPORTED_FIELDS: usize = 32;

/// Counts the fields of a task that this version ignores, and logs each name once.
fn report_ignored_fields(worker: &QueueWorker, task: &Task) {
    for field in task.unknown.iter().take(MAX_REPORTED_FIELDS) {
        if worker.shared.metrics.ignored_field(field) == Occurrence::First {
            tracing::warn!(
                field,
                "the protocol does not have this field: ignoring it; logged once, counted in redial_ignored_fields_total"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::{never, size_of_returned};

    #[test]
    fn a_task_in_a_worker_is_small() {
        // The allocator rounds more than this up to 6 KB. One rare path that is not boxed makes it twice as large.
        assert!(size_of_returned(|| run(never(), never(), never(), never())) <= 5 << 10);
    }
}
