//! Drains the calls that wait for limits. For each limit, one worker of the fleet leads: it asks for as many calls as may go soon and
//! takes that many from the wait lists of its queues, each with the moment for which it was granted. The others look again when the
//! leader may be gone, or may need help.

pub mod release;
mod round;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redial_core::WorkerId;
use redial_core::limit::DrainRole;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::client::{DrainReason, DrainSignal, LimitClient};
use crate::queue::served_queues::ServedQueues;
use crate::queue::slots::Slots;
use crate::queue::vital;
use round::{DrainRound, LimitDrain};

/// The leader asks at least this often, so that a changed definition is soon in force.
const MAX_WAIT: Duration = Duration::from_millis(900);
/// The wait after a round that failed, and how many may fail in a row before it ends; a check of the lists starts another one.
const RETRY_WAIT: Duration = Duration::from_millis(500);
const MAX_FAILURES: u32 = 20;
/// How soon a worker looks at first whether the leader needs help.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// A bystander looks whether the leader needs help each time that about this many calls have gone, within these bounds.
const CALLS_PER_LOOK: f64 = 20.0;
const LOOK_INTERVALS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A leader of a slower limit never needs help. Should it die, the next check of the lists finds a new one.
const SLOW_PER_SECOND: f64 = 10.0;

/// The limits for which calls wait, as far as this worker knows.
#[derive(Debug)]
pub struct LimitDrains {
    served: ServedQueues,
    slots: Slots,
    worker: Arc<str>,
    numbers: Arc<AtomicU64>,
    running: HashMap<String, Arc<DrainControl>>,
}

/// How others reach the drain of one limit.
#[derive(Debug, Default)]
struct DrainControl {
    wake: Notify,
    /// It was woken, and has not looked since.
    is_woken: AtomicBool,
    /// A concurrency slot has become free since it looked.
    has_free_slot: AtomicBool,
}

impl LimitDrains {
    /// Drains what waits in these queues, into these slots. `numbers` are those of the requests to wait lists.
    pub fn new(served: ServedQueues, slots: Slots, id: &WorkerId, numbers: Arc<AtomicU64>) -> Self {
        Self { served, slots, worker: id.as_str().into(), numbers, running: HashMap::new() }
    }

    /// Runs until the worker stops claiming. Then it resigns, so that others lead at once.
    pub async fn run(mut self, mut signals: mpsc::UnboundedReceiver<DrainSignal>) {
        let Some(shared) = self.served.first().map(|worker| worker.shared.clone()) else { return };
        let mut drains: JoinSet<String> = JoinSet::new();
        let limits = shared.limits.clone();
        tokio::spawn(async move {
            if let Err(error) = limits.limits().prepare().await {
                tracing::debug!(%error, "could not tell Redis the scripts of limits beforehand");
            }
        });
        loop {
            tokio::select! {
                () = shared.stop.cancelled() => break,
                Some(ended) = drains.join_next() => {
                    let limit = ended.unwrap_or_default();
                    let ended = self.running.remove(&limit);
                    // It was woken at the last moment.
                    if ended.is_some_and(|control| control.is_woken.load(Ordering::Relaxed)) {
                        let signal = DrainSignal { limit, reason: DrainReason::Unattended };
                        self.handle(signal, &shared.limits, &mut drains);
                    }
                }
                Some(signal) = signals.recv() => self.handle(signal, &shared.limits, &mut drains),
            }
        }
        drains.join_all().await;
    }

    fn handle(
        &mut self,
        DrainSignal { limit, reason }: DrainSignal,
        client: &Arc<LimitClient>,
        drains: &mut JoinSet<String>,
    ) {
        if let Some(control) = self.running.get(&limit) {
            if !matches!(reason, DrainReason::Attended(_)) {
                control.is_woken.store(true, Ordering::Relaxed);
                control.has_free_slot.fetch_or(reason == DrainReason::FreeSlot, Ordering::Relaxed);
                control.wake.notify_one();
            }
            return;
        }
        if reason == DrainReason::Refunded {
            return;
        }
        let control = Arc::new(DrainControl::default());
        self.running.insert(limit.clone(), control.clone());
        let (served, slots) = (self.served.clone(), self.slots.clone());
        let (worker, numbers) = (self.worker.clone(), self.numbers.clone());
        let drain = LimitDrain::new(limit.clone(), served, slots, client.clone(), worker, numbers);
        control.has_free_slot.store(reason == DrainReason::FreeSlot, Ordering::Relaxed);
        let first_wait = if let DrainReason::Attended(lease) = reason { lease.min(FIRST_LOOK) } else { Duration::ZERO };
        drains.spawn(vital::guard("limit drain", async move {
            drain_limit(drain, &control, first_wait).await;
            limit
        }));
    }
}

async fn drain_limit(mut drain: LimitDrain, control: &DrainControl, mut wait: Duration) {
    let stop = drain.stop();
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return drain.resign().await,
            () = control.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        control.is_woken.store(false, Ordering::Relaxed);
        let is_called = control.has_free_slot.swap(false, Ordering::Relaxed);
        wait = match drain.round(is_called).await {
            Ok(DrainRound::NothingWaits) => return,
            Ok(DrainRound::Again(wait)) => {
                failures = 0;
                wait.min(MAX_WAIT)
            }
            Ok(DrainRound::Attended { per_second: Some(slow), .. }) if slow < SLOW_PER_SECOND => return,
            Ok(DrainRound::Attended { per_second, lease }) => {
                let (least, most) = LOOK_INTERVALS;
                let usual = per_second.map_or(most, |rate| Duration::from_secs_f64(CALLS_PER_LOOK / rate));
                failures = 0;
                usual.clamp(least, most).min(lease.max(least)).mul_f64(rand::random_range(1.0..1.2))
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(%error, limit = drain.limit(), "could not drain the calls that wait for a limit");
                if failures > MAX_FAILURES {
                    return;
                }
                RETRY_WAIT
            }
        };
    }
}

/// Whether a worker in this role asks for calls.
fn drains(role: DrainRole) -> bool {
    role != DrainRole::Bystander
}
