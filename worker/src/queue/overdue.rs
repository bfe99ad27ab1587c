//! Frees slots when other tasks need them: of tasks that Redis keeps waiting, and of calls to an upstream that holds more than its share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue_worker::SharedHandles;
use super::served_queues::ServedQueues;
use crate::in_flight::lending::lend_slots;

/// How often it is looked whether tasks keep slots that others need.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is logged while Redis keeps tasks waiting.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Looks after the slots of a worker until it aborts its calls.
pub async fn run(shared: Arc<SharedHandles>, served: ServedQueues) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reported: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shared.abort.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !shared.slots.is_full() {
            continue;
        }
        let workers = served.all();
        lend_slots(&shared.in_flight, &workers);
        let freed: usize = workers.iter().map(|worker| worker.queue.held.free_overdue_slots()).sum();
        if freed > 0 && reported.is_none_or(|at| at.elapsed() > LOG_INTERVAL) {
            reported = Some(Instant::now());
            tracing::warn!(
                tasks = freed,
                "all slots are in use, and Redis does not store what became of some tasks: these give their slots to others and go on waiting"
            );
        }
    }
}
