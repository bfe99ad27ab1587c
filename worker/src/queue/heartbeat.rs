//! Renews the worker's lease on its tasks of one queue, and acts on what a heartbeat reveals.

use std::sync::Arc;
use std::time::Instant;

use redial_core::consumer::HeartbeatReply;

use super::queue_worker::QueueWorker;
use super::sweeper::Sweeper;
use crate::observe::health::Health;

/// Heartbeats per lease: three may be missed.
pub const BEATS_PER_LEASE: u32 = 4;

/// Runs until the worker aborts its calls, or until it is aborted itself.
pub async fn run(worker: QueueWorker, health: Arc<Health>) {
    let queue = &worker.queue;
    let beat = worker.shared.config.lease / BEATS_PER_LEASE;
    let mut sweeper = Sweeper::new(worker.clone());
    let mut ticks = tokio::time::interval(beat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before = Instant::now();
        let Some(reply) = queue.retry.retry("heartbeat", || queue.consumer.heartbeat()).await else {
            return;
        };
        queue.clock.sync(reply.now);
        health.heartbeat_answered();
        // A heartbeat that took long had to wait for Redis. Then every lease may have ended, without any worker's fault.
        let was_outage = before.elapsed() > beat;
        sweep(&mut sweeper, &reply, was_outage).await;
        // So that operators find the queue; at every heartbeat, since Redis may have lost it.
        let redis_queue = worker.redis_queue();
        let _ = redis_queue.db().register_queue(redis_queue.name()).await;
        if let Ok(counts) = redis_queue.counts().await {
            worker.shared.metrics.backlog(worker.name(), counts, reply.held);
        }
    }
}

async fn sweep(sweeper: &mut Sweeper, reply: &HeartbeatReply, was_outage: bool) {
    if was_outage {
        sweeper.postpone_reaping();
    }
    for ended in &reply.ended {
        sweeper.reap(ended).await;
    }
    sweeper.reconcile(reply.held).await;
    sweeper.deliver_replies(reply.undelivered).await;
    sweeper.check_wait_lists(reply.watched);
}
