//! A task that kills its workers is set aside, and takes no innocent one along.
//!
//! When a worker dies, all that it held is suspect alike. A second crash may still be chance; but from then on a task runs
//! alone in its worker, with its start put down, so that a third crash is counted only against the one that was running.

use std::time::Duration;

use redial_core::{Reason, UnixMs};

use super::Verdict;
use crate::job::Job;
use crate::worker::Worker;

/// After so many crashes a task is dead.
const MAX_CRASHES: u32 = 3;
/// After so many it runs alone.
pub(super) const ALONE_AFTER: u32 = 2;
/// How long a suspect waits when another one is running.
const WAIT: Duration = Duration::from_millis(200);

pub(super) fn check(worker: &Worker, job: &mut Job) -> Option<Verdict> {
    let crashes = job.header.crashes;
    if crashes >= MAX_CRASHES {
        let error = format!("{crashes} workers died while they ran it; replay it when the cause is found");
        return Some(Verdict::Reject(Reason::CrashedWorker, error));
    }
    if crashes < ALONE_AFTER {
        return None;
    }
    job.alone = worker.alone.clone().try_acquire_owned().ok();
    job.alone.is_none().then_some(Verdict::Defer { wait: WAIT, not_before: UnixMs(0) })
}
