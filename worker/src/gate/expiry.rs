//! After its deadline no attempt of a task starts.

use redial_core::{Reason, UnixMs};

use super::Verdict;
use crate::job::Job;

pub(super) fn check(job: &Job, now: UnixMs) -> Option<Verdict> {
    let deadline = job.task.deadline(job.header.first_seen)?;
    if now < deadline {
        return None;
    }
    let late = now.since(deadline);
    let last = job.header.state.attempts.last().and_then(|attempt| attempt.error.as_deref());
    let so_far = last.map_or_else(|| "no attempt was made".to_owned(), |error| format!("the last attempt: {error}"));
    Some(Verdict::Reject(Reason::Expired, format!("its time was up {late} ms ago; {so_far}")))
}
