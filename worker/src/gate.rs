//! What stands before an attempt. The order is here; each check is a file.

mod crashes;
mod expiry;
mod schedule;
mod sending;

use std::time::Duration;

use redial::{Reason, UnixMs};

use crate::job::Job;
use crate::worker::{Lane, Worker};

/// What a gate says. None of it is an error.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Not now: after `wait`, and not before a moment. Uses no attempt and holds no slot.
    Defer {
        /// From now.
        wait: Duration,
        /// By Redis's clock.
        not_before: UnixMs,
    },
    /// Never.
    Reject(Reason, String),
    /// The lease was lost: the task is another worker's.
    Lost,
}

/// Asks every gate in turn; the first that does not pass decides. What writes to Redis comes last.
pub async fn pass(worker: &Worker, lane: &Lane, job: &mut Job) -> Verdict {
    let now = lane.clock.now();
    let verdict = sending::check_sent(job)
        .or_else(|| expiry::check(job, now))
        .or_else(|| schedule::check(job, now))
        .or_else(|| crashes::check(worker, job));
    match verdict {
        Some(verdict) => verdict,
        None if sending::must_be_put_down(job) => Box::pin(sending::put_down(worker, lane, job)).await,
        None => Verdict::Pass,
    }
}
