//! Drains the tasks that wait for an upstream: as many at a time as its breaker admits.

use std::time::Duration;

use redial_core::breaker::{BreakerRequest, BreakerState};
use redial_core::consumer::{ParkedTasks, Selection, WaitList};

use crate::queue::queue_worker::QueueWorker;
use crate::queue::vital;

/// How often a worker asks whether an upstream is back, whether one task waits or a million.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two questions.
const MIN_WAIT: Duration = Duration::from_millis(10);

/// Drains the tasks of a queue that wait for an upstream, until none is left. If this worker dies, the wait list is still watched
/// and another worker takes over.
pub fn drain_when_up(worker: &QueueWorker, upstream: &str) {
    let list = (worker.queue_name().clone(), upstream.to_owned());
    if worker.shared.drains.start(&list) {
        let worker = worker.clone();
        vital::spawn("drain", async move {
            let drains = &worker.shared.drains;
            let parked = ParkedTasks::new(worker.redis_queue().clone(), &WaitList::breaker(&list.1));
            loop {
                let outcome = drain(&worker, &list.1, &parked).await;
                drains.end(&list);
                // A task may have been parked after the last look, when this list was still being drained.
                if outcome == Drain::Stopped || matches!(parked.count().await, Ok(0) | Err(_)) || !drains.start(&list) {
                    return;
                }
            }
        });
    }
}

/// How a drain ended.
#[derive(Debug, PartialEq, Eq)]
enum Drain {
    /// No task is left.
    Empty,
    /// The worker stops.
    Stopped,
}

async fn drain(worker: &QueueWorker, upstream: &str, parked: &ParkedTasks) -> Drain {
    loop {
        let waiting = parked.count().await.ok();
        let request = BreakerRequest::WaitList(waiting.unwrap_or(1));
        let Some((status, decision)) = worker.shared.breakers.ask_redis(upstream, request).await else {
            return Drain::Stopped;
        };
        let mut left = decision.admit;
        while left != Selection::NONE {
            left = match (parked.unpark_some(left).await, left) {
                (Ok(moved @ 1..), Selection::Next(limit)) => Selection::Next(limit.saturating_sub(moved)),
                _ => Selection::NONE,
            }
        }
        if decision.admit != Selection::NONE || status.state == BreakerState::HalfOpen {
            worker.queue.wakeups.task_due_in(Duration::ZERO);
        }
        if waiting == Some(0) && status.state != BreakerState::HalfOpen {
            return Drain::Empty;
        }
        tokio::select! {
            () = tokio::time::sleep(decision.retry_in.clamp(MIN_WAIT, POLL_INTERVAL)) => {}
            () = worker.shared.stop.cancelled() => return Drain::Stopped,
        }
    }
}
