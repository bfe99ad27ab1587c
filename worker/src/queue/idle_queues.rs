//! Finds the queues that are not idle any more, for all idle queues of a worker together. A push needs no look: it wakes the worker.
//! What else may come is a task that another worker scheduled or released, a schedule, a reply or wait list to attend to, and another
//! worker, whose lease has to be observed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redial_core::Queue;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backlog;
use super::queue_worker::QueueWorker;
use super::served_queues::ServedQueues;
use crate::observe::health::Health;

/// How often the idle queues are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How many idle queues of a Cluster are looked at in each interval: there, each needs a command of its own.
const MAX_LOOKS: usize = 40;
/// How often the backlog of an idle queue is measured at most. Of many, one is measured in each interval.
const MEASURE_INTERVAL: Duration = Duration::from_secs(30);

/// The idle ones among the queues of a worker.
#[derive(Debug)]
pub struct IdleQueues {
    served: ServedQueues,
    health: Arc<Health>,
    /// The queue whose turn it is to be looked at, in a Cluster.
    next_look: usize,
    /// The queue whose turn it is to be measured, and when the last one was.
    next_measure: usize,
    last_round: Instant,
}

impl IdleQueues {
    /// Looks after these queues.
    pub fn new(served: ServedQueues, health: Arc<Health>) -> Self {
        Self { served, health, next_look: 0, next_measure: 0, last_round: Instant::now() }
    }

    /// Runs until the worker stops claiming.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let was_away = Arc::new(AtomicBool::new(false));
        let mut looks = JoinSet::new();
        let mut measuring = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            while looks.try_join_next().is_some() {}
            while measuring.try_join_next().is_some() {}
            let is_cluster = self.served.first().is_some_and(|worker| worker.redis_queue().db().is_cluster());
            // Looks that are not answered in time, because a node hangs, are not sent again and again.
            if is_cluster {
                for worker in self.next_in_turn(MAX_LOOKS.saturating_sub(looks.len())) {
                    looks.spawn(look_at(worker, self.health.clone()));
                }
            } else if looks.is_empty() {
                let idle = self.idle();
                looks.spawn(look_at_all(idle, self.health.clone(), was_away.clone()));
            }
            if measuring.is_empty()
                && let Some(worker) = self.next_to_measure()
            {
                measuring.spawn(async move { backlog::measure(&worker, 0).await });
            }
        }
    }

    fn idle(&self) -> Vec<QueueWorker> {
        self.served.all().iter().filter(|worker| worker.queue.activity.is_idle()).cloned().collect()
    }

    /// The next idle queues, at most this many and each once.
    fn next_in_turn(&mut self, most: usize) -> Vec<QueueWorker> {
        let workers = self.served.all();
        let count = workers.len();
        let mut found = Vec::new();
        for _ in 0..count {
            if found.len() == most {
                break;
            }
            let worker = &workers[self.next_look % count];
            if worker.queue.activity.is_idle() {
                found.push(worker.clone());
            }
            self.next_look = (self.next_look + 1) % count;
        }
        found
    }

    fn next_to_measure(&mut self) -> Option<QueueWorker> {
        if self.next_measure >= self.served.len() {
            if self.last_round.elapsed() < MEASURE_INTERVAL {
                return None;
            }
            (self.next_measure, self.last_round) = (0, Instant::now());
        }
        let worker = self.served.all().get(self.next_measure)?.clone();
        self.next_measure += 1;
        worker.queue.activity.is_idle().then_some(worker)
    }
}

/// Looks at all idle queues with one command.
async fn look_at_all(idle: Vec<QueueWorker>, health: Arc<Health>, was_away: Arc<AtomicBool>) {
    let Some(first) = idle.first() else { return };
    let queues: Vec<Queue> = idle.iter().map(|worker| worker.redis_queue().clone()).collect();
    let db = queues[0].db();
    let retry = first.shared.limits.retry();
    match db.queues_in_use(&queues).await {
        Ok(in_use) => {
            retry.succeeded();
            health.claim_answered();
            if was_away.swap(false, Ordering::Relaxed) {
                // The other connections to the same Redis, which wait for pushes, may be dead without a sign.
                for worker in &idle {
                    worker.queue.activity.suspect_listener();
                }
            }
            for worker in in_use.into_iter().filter_map(|position| idle.get(position)) {
                wake(worker);
            }
        }
        Err(error) => {
            retry.failed("look_at_idle_queues", &error);
            was_away.store(true, Ordering::Relaxed);
        }
    }
}

/// Looks at one idle queue of a Cluster.
async fn look_at(worker: QueueWorker, health: Arc<Health>) {
    match worker.redis_queue().is_in_use().await {
        Ok(in_use) => {
            worker.queue.retry.succeeded();
            health.claim_answered();
            if in_use {
                wake(&worker);
            }
        }
        Err(error) => {
            worker.queue.retry.failed("look_at_idle_queue", &error);
            worker.queue.activity.suspect_listener();
            // Its claims show when its node answers again.
            wake(&worker);
        }
    }
}

/// The queue is idle no more, or may not be.
fn wake(worker: &QueueWorker) {
    worker.queue.activity.note();
    worker.queue.wakeups.wake();
}
