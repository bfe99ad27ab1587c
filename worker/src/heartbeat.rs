//! Renews the worker's lease on its tasks of one queue, and acts on what a beat tells.

use std::sync::Arc;
use std::time::Instant;

use redial_core::consumer::HeartbeatReply;

use crate::persist::persist;
use crate::sweeper::Sweeper;
use crate::worker::{Lane, Worker};

/// Beats in one lease: three may be missed.
const BEATS: u32 = 4;

/// Runs until the worker gives up its calls or is told to end.
pub async fn run(worker: Arc<Worker>, lane: Arc<Lane>) {
    let mut sweeper = Sweeper::new(worker.clone(), lane.clone());
    let mut ticks = tokio::time::interval(worker.config.lease / BEATS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before = Instant::now();
        let Some(beat) = persist(&worker, &lane, "heartbeat", || lane.consumer.heartbeat()).await else {
            return;
        };
        lane.clock.sync(beat.now);
        worker.metrics.beat();
        // A beat that took long had to wait for Redis: then every lease may have ended, and none for a worker's fault.
        let outage = before.elapsed() > worker.config.lease / BEATS;
        if Arc::ptr_eq(&lane, &worker.lanes[0]) {
            worker.limiter.extend_slots(&lane, worker.config.lease).await;
        }
        sweep(&mut sweeper, &beat, outage).await;
        // So that operators find the queue; again with each beat, as Redis may have lost it.
        let queue = lane.consumer.queue();
        let _ = queue.db().register_queue(queue.name()).await;
        if let Ok(counts) = lane.consumer.queue().counts().await {
            worker.metrics.backlog(&lane.name, counts, beat.held);
        }
    }
}

async fn sweep(sweeper: &mut Sweeper, beat: &HeartbeatReply, outage: bool) {
    if outage {
        sweeper.hold_off();
    }
    for ended in &beat.ended {
        sweeper.reap(ended).await;
    }
    sweeper.compare(beat.held).await;
    sweeper.deliver_replies(beat.undelivered).await;
    sweeper.look_after(beat.watched);
}
