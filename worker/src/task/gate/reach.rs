//! A task whose gates lie on a node of a Cluster that does not answer waits in its own queue, on a node that does. It must not occupy a slot
//! that others could use.

use std::time::Duration;

use redial_core::UnixMs;
use redial_core::memo::MemoKey;

use crate::breaker::client::upstream_of;
use crate::limit::applied::AppliedLimit;
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// How long a task waits, about, before it tries again.
const WAIT: Duration = Duration::from_secs(1);
/// How long the gates may take in all before the task gives its slot to another one. It is much longer than they take 200 ms from Redis.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How often a task that waits for its gates looks whether their nodes are still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What the gates of a task ask in Redis, each on a node of its own.
#[derive(Debug)]
pub struct GateKeys {
    memos: Vec<MemoKey>,
    upstream: String,
    limits: Vec<String>,
}

impl GateKeys {
    /// What the gates of this task ask. `None`: they are all in one place, where nothing is out of reach alone.
    pub fn of(worker: &QueueWorker, job: &Job, memos: &[MemoKey], limits: &[AppliedLimit]) -> Option<Self> {
        worker.redis_queue().db().is_cluster().then(|| Self {
            memos: memos.to_vec(),
            upstream: upstream_of(&job.task.url),
            limits: limits.iter().map(|applied| applied.limit.name.clone()).collect(),
        })
    }

    /// Whether a gate would not answer, as far as it is known.
    pub fn are_away(&self, worker: &QueueWorker) -> bool {
        let shared = &worker.shared;
        self.memos.iter().any(|key| shared.memos.memos().is_away(key))
            || shared.breakers.is_out_of_reach(&self.upstream)
            || self.limits.iter().any(|name| shared.limits.limits().is_away(name))
    }

    /// Waits until a gate would not answer.
    pub async fn wait_until_away(&self, worker: &QueueWorker) {
        while !self.are_away(worker) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Later, in a while.
pub fn wait() -> Refusal {
    Refusal::Defer { wait: WAIT.mul_f64(rand::random_range(0.5..1.5)), not_before: UnixMs(0) }
}
