//! Renews the worker's lease on its tasks of one queue, and waits for nothing else: what a heartbeat reveals is acted on beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::WorkerId;
use redial_core::consumer::{HeartbeatReply, LeaseRenewal};
use tokio::sync::watch;

use super::lease_observer::{LeaseObservation, LeaseObserver};
use super::queue_worker::QueueWorker;
use super::redis_retry::NotStored;
use crate::observe::health::Health;

/// Heartbeats per lease: three may be missed.
pub const BEATS_PER_LEASE: u32 = 4;
/// How soon after it became active a queue has its first heartbeat: if there was just one quick task, it is the last one.
const FIRST_BEAT: Duration = Duration::from_millis(500);

/// What a heartbeat revealed.
#[derive(Debug)]
pub struct HeartbeatNews {
    pub reply: HeartbeatReply,
    /// The workers whose lease has ended.
    pub ended: Vec<(WorkerId, LeaseRenewal)>,
}

/// The newest news of a queue; none before the first heartbeat.
pub type NewsReceiver = watch::Receiver<Option<Arc<HeartbeatNews>>>;

/// Runs until the worker aborts its calls, or until it is aborted itself. An idle queue has no heartbeats.
pub async fn run(worker: QueueWorker, health: Arc<Health>, news: watch::Sender<Option<Arc<HeartbeatNews>>>) {
    let queue = &worker.queue;
    let beat = worker.shared.config.lease / BEATS_PER_LEASE;
    let mut observer = LeaseObserver::new(queue.consumer.worker().clone(), worker.shared.config.lease);
    loop {
        if queue.activity.is_idle() {
            queue.activity.active().await;
            tokio::time::sleep(FIRST_BEAT.min(beat)).await;
        }
        let events = queue.activity.events();
        let sent = Instant::now();
        let reply = match queue.retry.retry("heartbeat", || queue.consumer.heartbeat()).await {
            Ok(reply) => reply,
            Err(NotStored::Aborted) => return,
            // Whoever mends this finds the worker alive.
            Err(NotStored::Refused(_)) => {
                tokio::time::sleep(beat).await;
                continue;
            }
        };
        let received = Instant::now();
        queue.clock.sync(reply.now, sent, received);
        health.heartbeat_answered();
        let (ended, next_end) = observer.observe(LeaseObservation { sent, received, now: reply.now }, &reply.leases);
        if !reply.is_in_use && queue.held.is_empty() {
            queue.activity.rest_since(events);
        }
        news.send_replace(Some(Arc::new(HeartbeatNews { reply, ended })));
        // An extra one when a lease ends, so that nobody waits for its tasks until the next.
        let next = next_end.map_or(sent + beat, |end| end.min(sent + beat));
        tokio::time::sleep_until(next.max(received + beat / 8).into()).await;
    }
}
