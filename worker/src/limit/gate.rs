//! No call without the permission of every limit that applies to it. Comes last, so that a task that is refused uses no rate.

use std::time::{Duration, Instant};

use redial_core::limit::{DefinedBy, Grant, LimitRequest, SaidBy};
use redial_core::{Reason, Task, UnixMs};

use super::applied::{AppliedLimit, fairness_key};
use super::budget;
use super::client::ConcurrencySlot;
use super::grant::HeldGrant;
use crate::config::Config;
use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use crate::task::job::Job;
use crate::task::types::{Admission, LimitWait, Refusal};

/// A call that is ready this much later than its moment asks again: others go at theirs.
const MAX_DELAY: Duration = Duration::from_millis(25);
/// How often one call asks before it waits in Redis again.
const MAX_ASKS: u32 = 16;

/// The limits that apply to a task: its own, in its order, then those of its upstream.
pub fn limits_for(task: &Task, config: &Config) -> Vec<AppliedLimit> {
    let upstreams = config.upstreams.current();
    let of_upstream = upstreams.limits_for(task);
    let mut all: Vec<AppliedLimit> = Vec::new();
    for own in &task.limits {
        if all.iter().all(|other| other.limit.name != own.name) {
            let configured = config.limits.get(&own.name);
            let limit = configured.unwrap_or(own).clone();
            let defined_by = match configured {
                Some(_) => DefinedBy::Config,
                None if own.rate.is_some() || own.concurrency.is_some() => DefinedBy::Inline,
                None => DefinedBy::Name,
            };
            let may_adjust = upstreams.may_adjust(task, &own.name);
            let said_by = if may_adjust { SaidBy::Upstream } else { SaidBy::Task };
            all.push(AppliedLimit::new(limit, defined_by, Some(own), of_upstream.contains(&own.name), said_by));
        }
    }
    for name in of_upstream {
        if let Some(limit) = config.limits.get(name)
            && all.iter().all(|other| other.limit.name != *name)
        {
            all.push(AppliedLimit::new(limit.clone(), DefinedBy::Config, None, true, SaidBy::Upstream));
        }
    }
    all
}

/// Waits until all limits have granted the call, and its moment has come. `round` counts how often this task was too slow to use its
/// grants. The limits are asked in their order: one that lets the call wait costs it nothing under those behind it.
///
/// # Errors
/// The task has to wait in Redis, or can never be granted.
pub async fn acquire(
    worker: &QueueWorker,
    job: &mut Job,
    admission: &mut Admission,
    round: u32,
) -> Result<(), Refusal> {
    if admission.limits.is_empty() {
        return Ok(());
    }
    let brought = take_over_grant(worker, job, admission);
    for asks in 0..MAX_ASKS {
        let due = due(&admission.limits);
        let patience = max_delay(round + asks / 4);
        let Some(next) = admission.limits.iter().position(|applied| !is_usable(applied, due, patience)) else {
            sleep_until_due(worker, &admission.limits).await;
            return match admission.limits.iter().position(|applied| is_closed(worker, applied)) {
                None => {
                    job.header.state.waits_until = None;
                    Ok(())
                }
                Some(closed) => Err(give_way(worker, job, admission, closed, brought)),
            };
        };
        // One that has waited for its upstream may have waited for the limit before.
        let has_waited = brought.is_some() || admission.call.as_ref().is_some_and(|call| call.has_waited);
        let has_priority = has_waited || round > 0 || asks > 0;
        if let Err(refusal) = ask(worker, job, admission, next, due, has_priority).await {
            admission.limits.iter_mut().for_each(|applied| applied.grant = None);
            budget::note_wait(worker, job, &admission.limits[next], &refusal);
            return Err(keep_place(refusal, brought));
        }
    }
    Err(Refusal::Defer { wait: MAX_DELAY, not_before: UnixMs(0) })
}

/// Whether the call can start close enough to the moment of its grants. Each round allows more, so that a slow worker starts eventually.
/// What was granted counts as used then.
pub fn start(limits: &mut [AppliedLimit], round: u32) -> bool {
    let is_timely = due(limits).elapsed() < max_delay(round);
    if is_timely {
        limits.iter_mut().filter_map(|applied| applied.grant.as_mut()).for_each(HeldGrant::mark_used);
    }
    is_timely
}

/// Gives back what these limits granted to a call that was not made after all.
pub fn refund(limits: Vec<AppliedLimit>) {
    limits.into_iter().filter_map(|applied| applied.grant).for_each(HeldGrant::give_back);
}

fn max_delay(round: u32) -> Duration {
    MAX_DELAY * (1 << round.min(6))
}

/// The moment of the call: that of the last grant, or now.
fn due(limits: &[AppliedLimit]) -> Instant {
    let timed = limits.iter().filter_map(|applied| applied.grant.as_ref()).filter(|grant| grant.is_timed());
    timed.map(HeldGrant::due).max().unwrap_or_else(Instant::now)
}

/// Whether a grant is there, and not for a moment that is over when the call is due.
fn is_usable(applied: &AppliedLimit, due: Instant, patience: Duration) -> bool {
    let ready = due.max(Instant::now());
    let is_late = |grant: &HeldGrant| grant.is_timed() && ready.saturating_duration_since(grant.due()) > patience;
    applied.grant.as_ref().is_some_and(|grant| !is_late(grant))
}

/// Waits for the moment of the call. It may turn out to be later while a better estimate of a limit's clock arrives.
async fn sleep_until_due(worker: &QueueWorker, limits: &[AppliedLimit]) {
    loop {
        let due = due(limits);
        // The timer has whole milliseconds.
        if due.saturating_duration_since(Instant::now()) < Duration::from_millis(1) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = worker.shared.abort.cancelled() => return,
        }
    }
}

/// Attaches the grant that a call brings along from its wait list. Returns the name of its limit and the place that it had.
fn take_over_grant(worker: &QueueWorker, job: &mut Job, admission: &mut Admission) -> Option<(String, Option<String>)> {
    let grant = *job.turn.grant.take()?;
    if grant.is_timed() {
        worker.shared.limits.note_start(&grant.limit, grant.due().elapsed());
    }
    let brought = (grant.limit.clone(), grant.position.clone());
    // If the limit does not apply any more, the grant goes back.
    let applied = admission.limits.iter_mut().find(|applied| applied.limit.name == grant.limit)?;
    applied.grant = Some(grant);
    Some(brought)
}

/// Whether the limit was closed after it has granted the call.
fn is_closed(worker: &QueueWorker, applied: &AppliedLimit) -> bool {
    let client = &worker.shared.limits;
    applied.grant.as_ref().is_some_and(|grant| client.is_closed(&grant.limit, grant.asked, grant.due()))
}

/// Gives everything back and waits for a limit that is closed.
fn give_way(
    worker: &QueueWorker,
    job: &Job,
    admission: &mut Admission,
    closed: usize,
    brought: Option<(String, Option<String>)>,
) -> Refusal {
    let refusal = not_granted(worker, job, &admission.limits, closed, Ok(Grant::Waiting(Duration::ZERO)));
    admission.limits.iter_mut().for_each(|applied| applied.grant = None);
    keep_place(refusal, brought)
}

/// A call that came from a wait list keeps its place there.
fn keep_place(refusal: Refusal, brought: Option<(String, Option<String>)>) -> Refusal {
    match (refusal, brought) {
        (Refusal::AwaitLimit(wait), Some((limit, position))) if wait.limit == limit => {
            Refusal::AwaitLimit(Box::new(LimitWait { position, ..*wait }))
        }
        (refusal, _) => refusal,
    }
}

/// Asks one limit for a moment from `due` on. A grant for an earlier moment goes back with the same command.
async fn ask(
    worker: &QueueWorker,
    job: &Job,
    admission: &mut Admission,
    next: usize,
    due: Instant,
    has_priority: bool,
) -> Result<(), Refusal> {
    let applied = &mut admission.limits[next];
    let mut earlier = applied.grant.take();
    if let Some(earlier) = &mut earlier {
        earlier.mark_used();
    }
    let client = &worker.shared.limits;
    let name = applied.limit.name.clone();
    let request = LimitRequest {
        cost: applied.cost,
        token: job.token.clone(),
        has_priority,
        delay: due.saturating_duration_since(Instant::now()),
        returned_at: earlier.as_ref().map(|grant| grant.at),
        wait_bound: budget::remaining_bound(worker, job, applied),
    };
    let asked = Instant::now();
    let grant = client.acquire(&applied.limit, applied.defined_by, job.header.first_seen, request).await;
    tracing::trace!(task = %job.id, limit = %name, has_priority, ?grant, "asked a limit");
    if let Ok(Grant::Granted { at, holds_slot }) = grant {
        let held = earlier.and_then(|mut earlier| earlier.slot.take());
        let slot = held.or_else(|| holds_slot.then(|| ConcurrencySlot::new(client, &name, &job.token)));
        applied.grant = Some(HeldGrant::new(client, &name, applied.cost, at, slot, None, asked));
        return Ok(());
    }
    Err(not_granted(worker, job, &admission.limits, next, grant))
}

/// Why the call is not made now, or never.
fn not_granted(
    worker: &QueueWorker,
    job: &Job,
    limits: &[AppliedLimit],
    next: usize,
    grant: Result<Grant, NotStored>,
) -> Refusal {
    let applied = &limits[next];
    let name = &applied.limit.name;
    match grant {
        Ok(Grant::OverBudget(wait)) => budget::refuse(applied, wait),
        Ok(Grant::Waiting(_)) => {
            worker.shared.metrics.limit_wait(worker.name());
            Refusal::AwaitLimit(Box::new(LimitWait {
                limit: name.clone(),
                cost: applied.cost,
                fairness_key: fairness_key(limits, applied, job.task.tenant.as_deref(), worker.name()).to_owned(),
                position: None,
                dies_when_spent: applied.wait_bound.dies_when_spent,
            }))
        }
        Ok(Grant::OverBurst(burst)) => {
            let cost = applied.cost;
            let error = format!(
                "it takes {cost} of the limit {name:?}, which never admits more than {burst} at once: raise its burst, or split the call"
            );
            Refusal::Reject(Reason::InvalidTask, error)
        }
        Ok(Grant::Undefined) => {
            let error = format!(
                "the limit {name:?} is not defined: give the task its rate or concurrency, add a [[limit]] of that name to the workers' configuration, or use `redial limits set`"
            );
            Refusal::Reject(Reason::InvalidTask, error)
        }
        Ok(Grant::Granted { .. }) => Refusal::LeaseLost,
        Err(why) => Refusal::without(&format!("the limit {name:?}"), why),
    }
}
