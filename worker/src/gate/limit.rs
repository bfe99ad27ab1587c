//! No call without leave from every limit that it is under. Comes last, so that a task that is refused takes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::limit::{Adjustment, Grant, LimitRequest, MAX_HOLD, Reservation};
use redial_core::{Reason, UnixMs};

use super::Verdict;
use crate::job::Job;
use crate::limiter::{self, Place};
use crate::limits::{self, Limited};
use crate::worker::{Lane, Worker};

/// A call that goes so much later than it asked has to ask again: its worker was stopped, and others have gone meanwhile.
const LATE: Duration = Duration::from_millis(30);
/// What a call may go late without a word.
const A_LITTLE: Duration = Duration::from_millis(1);
/// How much before its time a call asks: what it is let go ahead by is waited out where timers are exact.
const EARLY: Duration = Duration::from_millis(8);

/// Waits for leave from all limits. `round` counts how often this task was too slow to use it.
pub(super) async fn check(worker: &Arc<Worker>, lane: &Arc<Lane>, job: &mut Job, round: u32) -> Option<Verdict> {
    if round == 0 {
        if job.task.limits.is_empty() && worker.config.upstreams.limits_for(&job.task).is_empty() {
            return None;
        }
        job.limits = limits::of(&job.task, &worker.config);
    } else {
        let all = job.limits.len();
        give_back(lane, job, all, Duration::ZERO).await;
    }
    loop {
        let wait = match ask(worker, lane, job).await {
            Ok(wait) => wait,
            Err(verdict) => return Some(verdict),
        };
        let has_leave = wait.is_none();
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or_default()) => {}
            () = worker.abort.cancelled() => {}
        }
        if has_leave {
            return None;
        }
    }
}

/// Whether a call may still use the leave that it was given. Who is late time and again is given longer, or it would never go.
pub(super) fn is_timely(job: &Job, round: u32) -> bool {
    job.limits.iter().all(|limited| limited.asked.elapsed() < LATE * (1 << round.min(6)))
}

/// A call of a slow limit that goes a little late moves the next ones by as much: "one a second" is meant between calls as the
/// upstream sees them. Where calls are many, what one is late another makes up for, and the command would cost more than it is worth.
pub(super) fn own_up(worker: &Worker, lane: &Arc<Lane>, job: &Job) {
    for limited in &job.limits {
        let overdue = limited.asked.elapsed().saturating_sub(limited.wait);
        let Some(share) = limited.share_of_turn(overdue).filter(|_| overdue >= A_LITTLE) else { continue };
        let (lane, name, at) = (lane.clone(), limited.limit.name.clone(), limited.admitted_at);
        let (flow, more) = (limits::flow(&job.limits, limited, &lane.name).to_owned(), share * limited.cost);
        worker.sharing.spawn(async move {
            if let Err(error) = lane.limits.adjust(&name, &Adjustment::charge(&flow, more, at)).await {
                tracing::debug!(%error, limit = %name, "a limit was not told that a call went late");
            }
        });
    }
}

/// Asks all limits in turn. `None`: the call may go. Else how long to wait with the slot in hand before it asks again, or
/// what becomes of the task. Where one says to wait, what the others granted goes back.
async fn ask(worker: &Arc<Worker>, lane: &Arc<Lane>, job: &mut Job) -> Result<Option<Duration>, Verdict> {
    for at in 0..job.limits.len() {
        job.limits[at].asked = Instant::now();
        let limited = &job.limits[at];
        let name = &limited.limit.name;
        let ask = LimitRequest {
            fairness_key: limits::flow(&job.limits, limited, &lane.name).to_owned(),
            cost: limited.cost,
            reservation: job.header.state.reservation_for(name),
            token: job.token.clone(),
        };
        let reservation = ask.reservation;
        let grant = limiter::ask(worker, lane, limited, job.header.first_seen, ask).await;
        tracing::trace!(task = %job.id, limit = %name, ?reservation, ?grant, "asked a limit");
        match grant {
            Some(Grant::Admitted { wait, holds_slot, admitted_at }) => {
                if holds_slot && !job.places.iter().any(|place| place.is_of(name)) {
                    job.places.push(Place::new(worker, lane, name, &job.token));
                }
                job.limits[at].admitted_at = admitted_at;
                job.limits[at].wait = wait;
                tokio::time::sleep(wait).await;
            }
            no => {
                if let Some(Grant::Reserved(wait, _)) = no {
                    give_back(lane, job, at, wait).await;
                }
                job.places.clear();
                return refused(worker, lane, job, at, no.as_ref()).map(Some);
            }
        }
    }
    job.header.state.reservations.clear();
    Ok(None)
}

fn refused(worker: &Worker, lane: &Lane, job: &mut Job, at: usize, no: Option<&Grant>) -> Result<Duration, Verdict> {
    let limited = &job.limits[at];
    let name = &limited.limit.name;
    Err(match no {
        Some(Grant::Reserved(wait, given)) => {
            job.header.state.set_reservation(name, *given);
            if *wait <= MAX_HOLD {
                return Ok(wait.saturating_sub(EARLY));
            }
            worker.metrics.limit_wait(&lane.name);
            // Without a rate nothing else spreads those who were all told the same moment.
            let spread = if limited.limit.rate.is_some() { 0.0 } else { 0.2 * rand::random::<f64>() };
            let wait = wait.saturating_sub(EARLY) + (*wait).min(Duration::from_secs(5)).mul_f64(spread);
            Verdict::Defer { wait, not_before: UnixMs(0) }
        }
        Some(Grant::OverBurst(burst)) => {
            let cost = limited.cost;
            let error = format!(
                "it takes {cost} of the limit {name:?}, which never has more than its burst of {burst}: raise the burst, or split the call"
            );
            Verdict::Reject(Reason::InvalidTask, error)
        }
        Some(Grant::Undefined) => {
            let error = format!(
                "no one says what the limit {name:?} is: give the task its rate or concurrency, the workers a [[limit]] of that name, or use `redial limits set`"
            );
            Verdict::Reject(Reason::InvalidTask, error)
        }
        Some(Grant::Admitted { .. }) | None => Verdict::Lost,
    })
}

/// Gives back what the first of its limits let go for a call that comes again after `wait`: then it is in their line, as it
/// has had its turn. Once: what is lost here is some of the rate, and sent twice it could be too many calls.
async fn give_back(lane: &Lane, job: &mut Job, granted: usize, wait: Duration) {
    for limited in &job.limits[..granted] {
        let (name, at) = (&limited.limit.name, limited.admitted_at);
        if let Err(error) = lane.limits.adjust(name, &Adjustment::refund(limited.cost, at)).await {
            tracing::debug!(%error, limit = %name, "a limit was not told that a call did not go");
        }
        job.header.state.set_reservation(name, in_line(limited, wait));
    }
}

/// A place in a limit's line, `wait` from now.
fn in_line(limited: &Limited, wait: Duration) -> Reservation {
    #[expect(clippy::cast_possible_truncation)] // microseconds of this century
    let then = (limited.admitted_at + (limited.asked.elapsed() + wait).as_secs_f64() * 1e6) as i64;
    Reservation::Queued(then)
}
