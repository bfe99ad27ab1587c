//! Lends slots in place of those that a slow upstream holds beyond its share, when other tasks need them.

use super::calls::CallsInFlight;
use crate::queue::queue_worker::QueueWorker;

/// Lends slots in place of those of upstreams that hold more than their share, as long as there are any to lend.
pub fn lend_slots(calls: &CallsInFlight, workers: &[QueueWorker]) {
    for (upstream, excess) in calls.excesses() {
        let mut lent = 0;
        for worker in workers {
            lent += worker.queue.held.lend_slots(&upstream, excess - lent);
        }
        if lent > 0 {
            let upstream = upstream.name();
            tracing::debug!(upstream, lent, "a slow upstream holds more than its share of the slots: others are lent");
        }
    }
}
