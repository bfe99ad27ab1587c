//! For some tasks "was it sent?" must survive a kill: it is put down in Redis before the call goes out.

use redial_core::Reason;
use redial_core::protocol::task::Effect;

use super::{Verdict, crashes};
use crate::job::Job;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

/// Whether the call may have gone out already and must not go out again. Comes before all that could give the task back,
/// which would forget it, or find another reason for its end, which would hide it.
pub(super) fn check_sent(job: &Job) -> Option<Verdict> {
    let error = "its worker died after the call may have gone out, and effect \"once\" forbids a second call";
    (is_once(job) && job.header.started).then(|| Verdict::Reject(Reason::OutcomeUnknown, error.into()))
}

/// Whether this start must be put down.
pub(super) fn must_be_put_down(job: &Job) -> bool {
    is_once(job) || job.header.crashes >= crashes::ALONE_AFTER
}

/// Puts it down.
pub(super) async fn put_down(worker: &Worker, lane: &Lane, job: &mut Job) -> Verdict {
    job.header.started = true;
    let started = persist(worker, lane, "begin", || lane.consumer.mark_started(&job.token, &job.header));
    match started.await {
        Some(true) => Verdict::Pass,
        Some(false) | None => Verdict::Lost,
    }
}

fn is_once(job: &Job) -> bool {
    job.task.effect == Effect::Once
}
