//! A task whose gates lie on a node of a Cluster that does not answer waits in its own queue, on a node that does. It must not occupy a slot
//! that others could use.

use std::time::Duration;

use redial_core::UnixMs;
use redial_core::memo::MemoKey;

use crate::breaker::client::upstream_of;
use crate::limit::gate::limits_for;
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// How long a task waits, about, before it tries again.
const WAIT: Duration = Duration::from_secs(1);
/// How long the gates may take in all before the task gives its slot to another one. It is much longer than they take 200 ms from Redis.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// # Errors
/// A gate would not answer.
pub fn check(worker: &QueueWorker, job: &Job, memos: &[MemoKey]) -> Result<(), Refusal> {
    let shared = &worker.shared;
    // Of a single Redis nothing is out of reach alone.
    if !worker.redis_queue().db().is_cluster() {
        return Ok(());
    }
    let is_away = memos.iter().any(|key| shared.memos.is_away(key))
        || shared.breakers.is_away(&upstream_of(&job.task.url))
        || limits_for(&job.task, &shared.config)
            .iter()
            .any(|applied| shared.limits.limits().is_away(&applied.limit.name));
    if is_away { Err(wait()) } else { Ok(()) }
}

/// Later, in a while.
pub fn wait() -> Refusal {
    Refusal::Defer { wait: WAIT.mul_f64(rand::random_range(0.5..1.5)), not_before: UnixMs(0) }
}
