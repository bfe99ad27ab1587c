//! Drains the tasks that wait until fewer calls are in flight to their upstream: as soon as there is room, this worker takes the next ones
//! from the wait lists of its queues. The other workers of the fleet do the same once the check of a list tells them of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redial_core::consumer::{DrainId, MAX_BATCH, ReleasedTasks, WaitList};
use redial_core::limit::NextInTurn;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::calls::UpstreamCalls;
use crate::limit::drain::release::{PickedCall, release};
use crate::queue::served_queues::ServedQueues;
use crate::queue::slots::Slots;
use crate::queue::vital;
use crate::task::types::Turn;

/// How soon a list is looked at again whatever happens: another worker may have emptied it.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is recorded that tasks wait.
const REGISTER_INTERVAL: Duration = Duration::from_secs(60);
/// How soon a paused queue is looked at again, and one whose list could not be read.
const PAUSED_WAIT: Duration = Duration::from_secs(1);
/// The least number of tasks that are known beforehand.
const MIN_NEXT: usize = 16;

/// The upstreams for which tasks wait, as far as this worker knows.
#[derive(Debug)]
pub struct UpstreamDrains {
    served: ServedQueues,
    slots: Slots,
    numbers: Arc<AtomicU64>,
}

impl UpstreamDrains {
    /// Drains what waits in these queues, into these slots. `numbers` are those of the requests to wait lists.
    pub fn new(served: ServedQueues, slots: Slots, numbers: Arc<AtomicU64>) -> Self {
        Self { served, slots, numbers }
    }

    /// Runs until the worker stops claiming. What waits then, others drain.
    pub async fn run(self, mut signals: mpsc::UnboundedReceiver<Arc<UpstreamCalls>>) {
        let Some(stop) = self.served.first().map(|worker| worker.shared.stop.clone()) else { return };
        loop {
            let upstream = tokio::select! {
                () = stop.cancelled() => return,
                Some(upstream) = signals.recv() => upstream,
            };
            let drain = UpstreamDrain {
                list: WaitList::in_flight(upstream.name()),
                upstream,
                served: self.served.clone(),
                slots: self.slots.clone(),
                numbers: self.numbers.clone(),
                queues: BTreeMap::new(),
                last_queue: String::new(),
                registered: None,
            };
            vital::spawn("drain of an upstream", drain.run(stop.clone()));
        }
    }
}

/// The drain of one upstream in this worker.
struct UpstreamDrain {
    upstream: Arc<UpstreamCalls>,
    list: WaitList,
    served: ServedQueues,
    slots: Slots,
    numbers: Arc<AtomicU64>,
    /// The queues of this worker in which tasks wait.
    queues: BTreeMap<String, WaitingQueue>,
    /// The queue from which tasks were calls last: the next ones come from another.
    last_queue: String,
    /// When it was recorded that tasks wait.
    registered: Option<Instant>,
}

/// A queue in which tasks wait.
#[derive(Debug, Default)]
struct WaitingQueue {
    /// The first ones.
    next: VecDeque<NextInTurn>,
    /// How many there are.
    left: usize,
    /// It is paused, or could not be read.
    not_before: Option<Instant>,
}

impl WaitingQueue {
    fn take_over(&mut self, released: Option<ReleasedTasks>, reads_next: bool) {
        let known = released.and_then(|released| Some((released.left?, released.next)));
        let Some((left, next)) = known else {
            self.next.clear();
            self.not_before = Some(Instant::now() + PAUSED_WAIT);
            return;
        };
        (self.left, self.not_before) = (left, None);
        if reads_next || left == 0 {
            self.next = next.into();
        }
    }

    fn is_ready(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// Whether nothing waits in it.
    fn is_empty(&self) -> bool {
        self.left == 0 && self.not_before.is_none()
    }
}

impl UpstreamDrain {
    async fn run(mut self, stop: CancellationToken) {
        let mut looked_at = Instant::now();
        loop {
            for name in self.upstream.take_unread() {
                self.queues.entry(name).or_default();
            }
            if looked_at.elapsed() > LOOK_INTERVAL {
                self.queues.values_mut().for_each(|queue| queue.next.clear());
                looked_at = Instant::now();
            }
            self.read_lists().await;
            self.queues.retain(|_, queue| !queue.is_empty());
            self.register_if_due().await;
            if self.queues.is_empty() {
                if self.upstream.end_drain() {
                    return;
                }
                continue;
            }
            let room = self.upstream.room(self.max());
            let Some(queue) = self.next_queue().filter(|_| room > 0) else {
                let wait = if room > 0 { PAUSED_WAIT } else { LOOK_INTERVAL };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.upstream.changed() => continue,
                    () = tokio::time::sleep(wait) => continue,
                }
            };
            let slot = tokio::select! {
                () = stop.cancelled() => return,
                slot = self.slots.acquire() => slot,
            };
            let Some(slot) = slot else { return };
            self.take(queue, slot, room).await;
        }
    }

    /// Records now and then that tasks wait, for those who look.
    async fn register_if_due(&mut self) {
        let is_due = self.registered.is_none_or(|at| at.elapsed() > REGISTER_INTERVAL);
        let Some(worker) = self.served.first().filter(|_| is_due && !self.queues.is_empty()) else { return };
        self.registered = Some(Instant::now());
        if let Err(error) = worker.redis_queue().db().register_busy_upstream(self.upstream.name()).await {
            tracing::debug!(%error, "could not record that tasks wait for an upstream");
        }
    }

    /// What the operator allows.
    fn max(&self) -> Option<usize> {
        let worker = self.served.first()?;
        worker.shared.config.upstreams.current().max_in_flight_of(self.upstream.name())
    }

    /// Reads the lists of which too little is known.
    async fn read_lists(&mut self) {
        for (name, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.next.is_empty() && queue.is_ready()) {
            let Some(worker) = self.served.get(name) else { continue };
            let read = worker.queue.consumer.release_in_turn(&self.list, &[], MAX_BATCH).await;
            if let Err(error) = &read {
                tracing::debug!(%error, queue = name, "could not read which tasks wait for an upstream");
            }
            queue.take_over(read.ok(), true);
        }
    }

    /// The queue whose turn it is, of those in which tasks wait.
    fn next_queue(&self) -> Option<String> {
        let has_next = |(_, queue): &(&String, &WaitingQueue)| !queue.next.is_empty() && queue.is_ready();
        let after = self.queues.iter().filter(has_next).find(|(name, _)| **name > self.last_queue);
        after.or_else(|| self.queues.iter().find(has_next)).map(|(name, _)| name.clone())
    }

    /// Takes the next tasks of a queue, as many as there is room and slots for.
    async fn take(&mut self, name: String, slot: OwnedSemaphorePermit, room: usize) {
        let (Some(worker), Some(queue)) = (self.served.get(&name), self.queues.get_mut(&name)) else {
            return;
        };
        let id = DrainId::new(self.numbers.fetch_add(1, Ordering::Relaxed));
        let mut slots = std::iter::once(slot).chain(std::iter::from_fn(|| self.slots.try_acquire()));
        let mut calls = Vec::new();
        while calls.len() < room.min(MAX_BATCH) && !queue.next.is_empty() {
            let Some(call) = self.upstream.admit_waiting() else { break };
            let (Some(slot), Some(next)) = (slots.next(), queue.next.pop_front()) else { break };
            let token = id.token(worker.queue.consumer.worker(), calls.len() + 1);
            let picked = PickedCall { queue: name.clone(), next, token };
            calls.push((picked, Turn { call: Some(call), grant: None }, slot));
        }
        if calls.is_empty() {
            return;
        }
        let reads_next = queue.next.is_empty();
        let most_next = if reads_next { room.clamp(MIN_NEXT, MAX_BATCH) } else { 0 };
        let released = release(worker, &self.list, most_next, calls).await;
        queue.take_over(released, reads_next);
        self.last_queue = name;
    }
}
