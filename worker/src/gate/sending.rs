//! For some tasks "was it sent?" must survive a kill: it is put down in Redis before the call goes out.

use redial::Reason;
use redial::task::Effect;

use super::{Verdict, crashes};
use crate::job::Job;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

pub(super) async fn check(worker: &Worker, lane: &Lane, job: &mut Job) -> Verdict {
    let once = job.task.effect == Effect::Once;
    if once && job.header.begun {
        let error = "its worker died after the call may have gone out, and effect \"once\" forbids a second call";
        return Verdict::Reject(Reason::OutcomeUnknown, error.into());
    }
    if !once && job.header.crashes < crashes::ALONE_AFTER {
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
