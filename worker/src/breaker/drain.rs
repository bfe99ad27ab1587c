//! Drains the tasks that wait for an upstream: as many at a time as its breaker admits.
//!
//! While the upstream is down, one worker of the fleet looks at a wait list once a probe interval: Redis has the time of the next look,
//! so that it is made whichever workers die. Once the upstream answers, the worker that looks leads the drain step by step.

use std::time::Duration;

use redial_core::QueueName;
use redial_core::breaker::{BreakerRequest, BreakerState};
use redial_core::consumer::{ParkedTasks, Selection, WaitList};

use crate::queue::queue_worker::QueueWorker;
use crate::queue::vital;

/// The shortest time between two looks.
pub const MIN_WAIT: Duration = Duration::from_millis(10);
/// How soon at the latest the first task in a wait list is looked at.
pub const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long a task that may probe takes at most to ask for it.
const PROBE_TIME: Duration = Duration::from_millis(200);
/// How long a half-open drain is left to the worker that leads it, should that fall silent.
const LEAD_TIME: Duration = Duration::from_secs(2);

/// Looks at the tasks of a queue that wait for an upstream, and drains them if it is up.
pub fn drain_when_up(worker: &QueueWorker, upstream: &str) {
    let list = (worker.queue_name().clone(), upstream.to_owned());
    if worker.shared.drains.start(&list) {
        let worker = worker.clone();
        vital::spawn("drain", async move {
            drain(&worker, &list.1).await;
            worker.shared.drains.end(&list);
        });
    }
}

/// The upstream has answered a probe: drains the tasks of this queue, and has those of all other queues looked at.
pub fn upstream_answered(worker: &QueueWorker, upstream: &str) {
    drain_when_up(worker, upstream);
    let (worker, list) = (worker.clone(), WaitList::breaker(upstream));
    tokio::spawn(async move {
        let db = worker.redis_queue().db();
        let is_other = |queue: &QueueName| queue != worker.queue_name();
        for queue in db.known_queues().await.unwrap_or_default().into_iter().filter(is_other) {
            // If this fails, the list is looked at when its time has come.
            let _ = db.queue(queue).check_now(&list).await;
        }
    });
}

async fn drain(worker: &QueueWorker, upstream: &str) {
    let parked = ParkedTasks::new(worker.redis_queue().clone(), &WaitList::breaker(upstream));
    loop {
        let waiting = parked.count().await.ok();
        let request = BreakerRequest::WaitList(waiting.unwrap_or(1));
        let Some((status, decision)) = worker.shared.breakers.ask_redis(upstream, request).await else { return };
        let mut left = decision.admit;
        while left != Selection::NONE {
            left = match (parked.unpark_some(left).await, left) {
                (Ok(moved @ 1..), Selection::Next(limit)) => Selection::Next(limit.saturating_sub(moved)),
                _ => Selection::NONE,
            }
        }
        let is_half_open = status.state == BreakerState::HalfOpen;
        if decision.admit != Selection::NONE || is_half_open {
            worker.queue.wakeups.task_due_in(Duration::ZERO);
        }
        let wait = match status.state {
            // The worker that makes the probe tells what it finds; this is for the case that nobody makes it.
            BreakerState::Open if decision.admit != Selection::NONE => {
                worker.shared.config.breaker.probe_interval + PROBE_TIME
            }
            _ => decision.retry_in.max(MIN_WAIT),
        };
        let next_check = if is_half_open { LEAD_TIME } else { wait };
        let left = parked.check_in(next_check).await;
        if !is_half_open {
            // If that failed, the list is due again as the last look left it.
            if matches!(left, Ok(1..)) {
                worker.queue.checks.due_in(wait);
            }
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.min(FIRST_LOOK)) => {}
            () = worker.shared.stop.cancelled() => return,
        }
    }
}
