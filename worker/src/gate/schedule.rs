//! Before its time no attempt of a task starts.

use std::time::Duration;

use redial_core::UnixMs;

use super::Verdict;
use crate::job::Job;

pub(super) fn check(job: &Job, now: UnixMs) -> Option<Verdict> {
    let not_before = job.task.not_before(job.header.first_seen)?;
    (now < not_before).then_some(Verdict::Defer { wait: Duration::ZERO, not_before })
}
