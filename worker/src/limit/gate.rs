//! No call without the permission of every limit that applies to it. Comes last, so that a task that is refused uses no rate.

use std::time::{Duration, Instant};

use redial_core::limit::{Adjustment, DefinedBy, Grant, LimitRequest, MAX_HOLD, Reservation, SaidBy};
use redial_core::{Reason, Task, UnixMs};

use super::applied::{AppliedLimit, fairness_key};
use super::budget;
use super::client::ConcurrencySlot;
use crate::config::Config;
use crate::queue::queue_worker::QueueWorker;
use crate::queue::redis_retry::NotStored;
use crate::task::job::Job;
use crate::task::types::{Admission, Refusal};

/// A call that starts this much later than it was admitted has to ask again: its worker was stopped, and others went meanwhile.
const MAX_DELAY: Duration = Duration::from_millis(30);
/// A call may start this much late without being charged for it.
const CHARGED_DELAY: Duration = Duration::from_millis(1);
/// A waiting call asks this much ahead of its time; the limit then states the remaining wait exactly.
const ASK_AHEAD: Duration = Duration::from_millis(8);

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

/// Waits until all limits admit the call. `round` counts how often this task was too slow to use its admission.
///
/// # Errors
/// The task has to wait in Redis, or can never be admitted.
pub async fn acquire(
    worker: &QueueWorker,
    job: &mut Job,
    admission: &mut Admission,
    round: u32,
) -> Result<(), Refusal> {
    if admission.limits.is_empty() {
        return Ok(());
    }
    if round > 0 {
        refund(worker, job, &admission.limits, Duration::ZERO).await;
    }
    loop {
        let wait = ask_all(worker, job, admission).await?;
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or_default()) => {}
            () = worker.shared.abort.cancelled() => {}
        }
        if wait.is_none() {
            return Ok(());
        }
    }
}

/// Whether the admission is recent enough to start the call. Each round allows more, so that a slow worker starts eventually.
pub fn is_timely(limits: &[AppliedLimit], round: u32) -> bool {
    limits.iter().all(|applied| applied.asked_at.elapsed() < MAX_DELAY * (1 << round.min(6)))
}

/// Charges slow limits for a call that starts late, which moves the next calls by as much: the upstream should see "one a second"
/// between calls. With a fast limit delays even out, and the command would cost more than it is worth.
pub fn charge_late_start(worker: &QueueWorker, limits: &[AppliedLimit]) {
    for applied in limits {
        let delay = applied.asked_at.elapsed().saturating_sub(applied.wait);
        let Some(share) = applied.share_of_turn(delay).filter(|_| delay >= CHARGED_DELAY) else { continue };
        let (client, name, at) = (worker.shared.limits.clone(), applied.limit.name.clone(), applied.admitted_at);
        let key = fairness_key(limits, applied, worker.name()).to_owned();
        let (charge, cost) = (share * applied.cost, applied.cost);
        worker.shared.background.spawn(async move {
            if let Err(error) = client.limits().adjust(&name, &Adjustment::charge(&key, charge, cost, at)).await {
                tracing::debug!(%error, limit = name, "could not charge a limit for a late start");
            }
        });
    }
}

/// Asks all limits in turn. `None`: the call may start. Otherwise, how long to wait in the slot before asking again. If one limit
/// makes the call wait, what the others granted is refunded.
async fn ask_all(worker: &QueueWorker, job: &mut Job, admission: &mut Admission) -> Result<Option<Duration>, Refusal> {
    for at in 0..admission.limits.len() {
        admission.limits[at].asked_at = Instant::now();
        let applied = &admission.limits[at];
        let name = &applied.limit.name;
        let request = LimitRequest {
            fairness_key: fairness_key(&admission.limits, applied, worker.name()).to_owned(),
            cost: applied.cost,
            reservation: job.header.state.reservation_for(name),
            token: job.token.clone(),
            wait_bound: budget::remaining_bound(worker, job, applied),
        };
        let reservation = request.reservation;
        let client = &worker.shared.limits;
        let grant = client.acquire(&applied.limit, applied.defined_by, job.header.first_seen, request).await;
        tracing::trace!(task = %job.id, limit = %name, ?reservation, ?grant, "asked a limit");
        match grant {
            Ok(Grant::Admitted { wait, holds_slot, admitted_at }) => {
                if holds_slot && !admission.slots.iter().any(|slot| slot.is_of(name)) {
                    admission.slots.push(ConcurrencySlot::new(client, name, &job.token));
                }
                let applied = &mut admission.limits[at];
                applied.admitted_at = admitted_at;
                applied.wait = wait;
                tokio::time::sleep(wait).await;
            }
            other => {
                match &other {
                    Ok(Grant::Reserved(wait, _)) => refund(worker, job, &admission.limits[..at], *wait).await,
                    Err(_) | Ok(Grant::OverBudget(_)) => {
                        refund(worker, job, &admission.limits[..at], Duration::ZERO).await;
                    }
                    Ok(_) => {}
                }
                let hold = not_admitted(worker, job, &admission.limits[at], other);
                // A call that asks again in a moment keeps its slots: their release could overtake, and end what it is granted then.
                if hold.is_err() {
                    admission.slots.clear();
                }
                return hold.map(Some);
            }
        }
    }
    job.header.state.reservations.clear();
    job.header.state.waits_since = None;
    Ok(None)
}

/// How long the call waits in its slot, or why it leaves it.
fn not_admitted(
    worker: &QueueWorker,
    job: &mut Job,
    applied: &AppliedLimit,
    grant: Result<Grant, NotStored>,
) -> Result<Duration, Refusal> {
    let name = &applied.limit.name;
    Err(match grant {
        Ok(Grant::OverBudget(wait)) => budget::refuse(applied, wait),
        Ok(Grant::Reserved(wait, _)) if budget::is_over(worker, job, applied, wait) => budget::refuse(applied, wait),
        Ok(Grant::Reserved(wait, reservation)) => {
            job.header.state.set_reservation(name, reservation);
            if wait <= MAX_HOLD {
                return Ok(wait.saturating_sub(ASK_AHEAD));
            }
            worker.shared.metrics.limit_wait(worker.name());
            // Without a rate, nothing else spreads the calls that were all given the same time.
            let spread = if applied.limit.rate.is_some() { 0.0 } else { 0.2 * rand::random::<f64>() };
            let wait = wait.saturating_sub(ASK_AHEAD) + wait.min(Duration::from_secs(5)).mul_f64(spread);
            Refusal::Defer { wait, not_before: UnixMs(0) }
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
        Ok(Grant::Admitted { .. }) => Refusal::LeaseLost,
        Err(why) => Refusal::without(&format!("the limit {name:?}"), why),
    })
}

/// Returns what these limits granted to a call that comes back after `wait`. As it has had its turn, it goes to the queued calls.
/// Sent once: if it is lost, some of the rate is lost; if it were sent twice, too many calls could go.
pub async fn refund(worker: &QueueWorker, job: &mut Job, granted: &[AppliedLimit], wait: Duration) {
    for applied in granted {
        let (name, at) = (&applied.limit.name, applied.admitted_at);
        let refund = Adjustment::refund(applied.cost, at);
        if let Err(error) = worker.shared.limits.limits().adjust(name, &refund).await {
            tracing::debug!(%error, limit = %name, "could not refund a limit");
        }
        job.header.state.set_reservation(name, queued_turn(applied, wait));
    }
}

/// A turn in a limit's queue, `wait` from now.
fn queued_turn(applied: &AppliedLimit, wait: Duration) -> Reservation {
    #[expect(clippy::cast_possible_truncation)] // microseconds of this century
    let at = (applied.admitted_at + (applied.asked_at.elapsed() + wait).as_secs_f64() * 1e6) as i64;
    Reservation::Queued(at)
}
