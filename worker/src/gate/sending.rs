//! For some tasks "was it sent?" must survive a kill: it is put down in Redis before the call goes out.

use redial::Reason;
use redial::task::Effect;

use super::{Verdict, crashes};
use crate::job::Job;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

/// Whether the call may have gone out already and must not go out again. Comes before all that could give the task back,
/// which would forget it, or find another reason for its end, which would hide it.
pub(super) fn check_sent(job: &Job) -> Option<Verdict> {
    let error = "its worker died after the call may have gone out, and effect \"once\" forbids a second call";
    (is_once(job) && job.header.begun)
        .then(|| Verdict::Reject(Reason::OutcomeUnknown, error.into()))
}

pub(super) async fn check(worker: &Worker, lane: &Lane, job: &mut Job) -> Verdict {
    if !is_once(job) && job.header.crashes < crashes::ALONE_AFTER {
        return Verdict::Pass;
    }
    job.header.begun = true;
    match persist(worker, lane, "begin", || {
        lane.consumer.begin(&job.token, &job.header)
    })
    .await
    {
        Some(true) => Verdict::Pass,
        Some(false) | None => Verdict::Lost,
    }
}

fn is_once(job: &Job) -> bool {
    job.task.effect == Effect::Once
}
