//! One round of a drain: who is next in the wait lists, what the limit grants them, and their way into this worker's slots.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redial_core::Error;
use redial_core::consumer::{DrainId, MAX_BATCH, ReleasedTasks, WaitList};
use redial_core::limit::{CallInTurn, DrainReply, DrainRequest, DrainRole, Grant, GrantWindow, NextInTurn};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::client::{ConcurrencySlot, LimitClient};
use super::super::clock::LEAST_WINDOW;
use super::super::grant::HeldGrant;
use super::drains;
use super::release::{PickedCall, release};
use crate::queue::served_queues::ServedQueues;
use crate::queue::slots::Slots;
use crate::task::types::Turn;

/// How long a leader leads after each of its requests.
const LEASE: Duration = Duration::from_secs(3);
/// How long a round waits for free slots.
const SLOT_PATIENCE: Duration = Duration::from_millis(50);
/// The wait while there is no free slot, and how soon a paused queue is looked at again.
const FULL_WAIT: Duration = Duration::from_millis(20);
const PAUSED_WAIT: Duration = Duration::from_secs(1);
/// For how many calls a limit without a rate is asked at a time.
const SLOTS_AT_A_TIME: usize = 8;
/// How much earlier than necessary the limit is asked.
const ASK_AHEAD: Duration = Duration::from_millis(10);

/// What a round found.
#[derive(Debug)]
pub enum DrainRound {
    /// No call waits in any queue of this worker.
    NothingWaits,
    /// More may go after this.
    Again(Duration),
    /// Another worker leads.
    Attended { per_second: Option<f64>, lease: Duration },
}

/// The drain of one limit in this worker.
#[derive(Debug)]
pub struct LimitDrain {
    limit: String,
    list: WaitList,
    served: ServedQueues,
    slots: Slots,
    client: Arc<LimitClient>,
    worker: Arc<str>,
    numbers: Arc<AtomicU64>,
    role: DrainRole,
    per_second: Option<f64>,
    /// The queues of this worker in which calls wait.
    queues: BTreeMap<String, WaitingQueue>,
    /// The queue from which the last call was taken: the next one comes from another.
    last_queue: String,
}

/// A queue in which calls wait.
#[derive(Debug, Default)]
struct WaitingQueue {
    /// When it last announced one, and what was known of that when its list was last read.
    announced: String,
    read_at: Option<String>,
    /// How many there are.
    left: usize,
    /// The first ones.
    next: VecDeque<NextInTurn>,
    paused_until: Option<Instant>,
}

impl WaitingQueue {
    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| until > Instant::now())
    }

    fn is_unread(&self) -> bool {
        !self.is_paused() && (self.read_at.as_ref() != Some(&self.announced) || self.next.is_empty() && self.left > 0)
    }

    fn is_empty(&self) -> bool {
        self.left == 0 && self.paused_until.is_none() && self.read_at.as_ref() == Some(&self.announced)
    }

    fn take_over(&mut self, released: ReleasedTasks) {
        if let Some(left) = released.left {
            (self.left, self.next, self.paused_until) = (left, released.next.into(), None);
        } else {
            self.next.clear();
            self.paused_until = Some(Instant::now() + PAUSED_WAIT);
        }
    }
}

impl LimitDrain {
    /// The drain of a limit that was not asked yet.
    pub fn new(
        limit: String,
        served: ServedQueues,
        slots: Slots,
        client: Arc<LimitClient>,
        worker: Arc<str>,
        numbers: Arc<AtomicU64>,
    ) -> Self {
        Self {
            list: WaitList::limit(&limit),
            limit,
            served,
            slots,
            client,
            worker,
            numbers,
            role: DrainRole::Bystander,
            per_second: None,
            queues: BTreeMap::new(),
            last_queue: String::new(),
        }
    }

    /// The limit's name.
    pub fn limit(&self) -> &str {
        &self.limit
    }

    /// Lets another worker lead.
    pub async fn resign(&self) {
        if self.role == DrainRole::Leader {
            // If that fails, the lease ends by itself.
            let _ = self.ask(&[], false, &[], Duration::ZERO).await;
        }
    }

    /// Asks for calls and takes them. `is_called`: this worker has reason to ask although it does not lead.
    pub async fn round(&mut self, is_called: bool) -> Result<DrainRound, Error> {
        if !drains(self.role) && is_called {
            // Others have taken calls since.
            self.queues.values_mut().for_each(|queue| queue.read_at = None);
        }
        if self.queues.is_empty() || !drains(self.role) && !is_called {
            let reply = self.ask(&[], false, &[], LEASE).await?;
            self.take_over(&reply);
            if self.queues.is_empty() {
                return Ok(DrainRound::NothingWaits);
            }
            if !drains(self.role) && !is_called {
                return Ok(DrainRound::Attended { per_second: self.per_second, lease: reply.lease });
            }
        }
        self.read_lists().await?;
        let emptied: Vec<(String, String)> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.is_empty())
            .map(|(name, queue)| (name.clone(), queue.announced.clone()))
            .collect();
        let waiting: usize = self.queues.values().map(|queue| queue.next.len()).sum();
        let slots = match self.expected().min(waiting) {
            0 => Vec::new(),
            count => self.slots.acquire_some(count, SLOT_PATIENCE).await,
        };
        let is_full = slots.is_empty() && waiting > 0;
        let calls = self.pick(slots.len());
        let in_turn = |call: &PickedCall| CallInTurn {
            cost: call.next.cost,
            token: call.token.clone(),
            dies_when_spent: call.next.dies_when_spent,
        };
        let in_turn: Vec<CallInTurn> = calls.iter().map(in_turn).collect();
        let asked = Instant::now();
        let reply = self.ask(&in_turn, is_full, &emptied, LEASE).await?;
        let received = Instant::now();
        let granted = reply.grants.len();
        let is_more = granted == calls.len() && !is_full;
        self.take(calls, slots, reply.grants.clone(), asked).await;
        self.take_over(&reply);
        if self.queues.is_empty() {
            return Ok(DrainRound::NothingWaits);
        }
        if !drains(self.role) {
            return Ok(DrainRound::Attended { per_second: self.per_second, lease: reply.lease });
        }
        Ok(DrainRound::Again(self.next_round(&reply, received, is_full, is_more)))
    }

    fn next_round(&self, reply: &DrainReply, received: Instant, is_full: bool, is_more: bool) -> Duration {
        if is_full {
            return FULL_WAIT;
        }
        let is_left = self.queues.values().any(|queue| !queue.next.is_empty() || queue.is_unread());
        if is_more {
            return if is_left || self.queues.values().any(WaitingQueue::is_empty) {
                Duration::ZERO
            } else {
                PAUSED_WAIT
            };
        }
        if reply.next_in.is_zero() {
            // A concurrency slot that becomes free wakes the drain.
            return PAUSED_WAIT;
        }
        let rtt = self.client.clock(&self.limit).map(|clock| clock.rtt()).unwrap_or_default();
        reply.next_in.saturating_sub(received.elapsed() + rtt + self.window().lead + ASK_AHEAD)
    }

    fn window(&self) -> GrantWindow {
        let near = GrantWindow { lead: Duration::from_millis(1), length: LEAST_WINDOW };
        self.client.clock(&self.limit).map_or(near, |clock| clock.window_for_drain(self.per_second))
    }

    /// How many calls may go in a round, about.
    fn expected(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it saturates
        let refilled = |rate: f64| (rate * self.window().length.as_secs_f64()) as usize + 2;
        self.per_second.map_or(SLOTS_AT_A_TIME, refilled).min(MAX_BATCH)
    }

    /// How many calls to know of beyond those that are taken: one may have ended meanwhile.
    fn most_next(&self) -> usize {
        self.expected() + 1
    }

    async fn ask(
        &self,
        calls: &[CallInTurn],
        is_full: bool,
        emptied: &[(String, String)],
        lease: Duration,
    ) -> Result<DrainReply, Error> {
        let request = DrainRequest {
            group: self.client.group(),
            worker: &self.worker,
            lease,
            is_full,
            emptied,
            window: self.window(),
            slot_lease: self.client.lease(),
            calls,
        };
        let sent = Instant::now();
        let reply = self.client.limits().drain(&self.limit, &request).await?;
        self.client.read_clock(&self.limit, sent, Instant::now(), reply.now);
        tracing::trace!(limit = self.limit, calls = calls.len(), is_full, ?reply, "drained a limit");
        Ok(reply)
    }

    fn take_over(&mut self, reply: &DrainReply) {
        (self.role, self.per_second) = (reply.role, reply.per_second);
        let known = std::mem::take(&mut self.queues);
        let mut known: BTreeMap<String, WaitingQueue> = known;
        for (name, announced) in &reply.queues {
            if self.served.get(name).is_some() {
                let mut queue = known.remove(name).unwrap_or_default();
                queue.announced.clone_from(announced);
                self.queues.insert(name.clone(), queue);
            }
        }
    }

    /// Reads the lists of which too little is known.
    async fn read_lists(&mut self) -> Result<(), Error> {
        let most_next = self.most_next();
        for (name, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.is_unread()) {
            let Some(worker) = self.served.get(name) else { continue };
            let announced = queue.announced.clone();
            let read = worker.queue.consumer.release_in_turn(&self.list, &[], most_next).await?;
            queue.take_over(read);
            queue.read_at = Some(announced);
        }
        Ok(())
    }

    /// Picks the first calls, of each queue in turn.
    fn pick(&mut self, count: usize) -> Vec<PickedCall> {
        let mut calls = Vec::with_capacity(count);
        let ids: HashMap<String, DrainId> = self
            .queues
            .keys()
            .map(|name| (name.clone(), DrainId::new(self.numbers.fetch_add(1, Ordering::Relaxed))))
            .collect();
        let mut picked: HashMap<String, usize> = HashMap::new();
        let after: Vec<String> = self.queues.range(self.last_queue.clone()..).map(|(name, _)| name.clone()).collect();
        let before: Vec<String> = self.queues.range(..self.last_queue.clone()).map(|(name, _)| name.clone()).collect();
        let mut order: Vec<String> = [after, before].concat();
        if order.first() == Some(&self.last_queue) {
            order.rotate_left(1);
        }
        while calls.len() < count {
            let before = calls.len();
            for name in &order {
                let at = picked.entry(name.clone()).or_default();
                let (Some(queue), Some(worker)) = (self.queues.get(name), self.served.get(name)) else { continue };
                if let (Some(next), true) = (queue.next.get(*at), calls.len() < count) {
                    let token = ids[name].token(worker.queue.consumer.worker(), *at + 1);
                    calls.push(PickedCall { queue: name.clone(), next: next.clone(), token });
                    *at += 1;
                }
            }
            if calls.len() == before {
                break;
            }
        }
        calls
    }

    /// Takes the calls that were granted, the first ones, into these slots. Those that can never go are taken as well, to find out why.
    async fn take(
        &mut self,
        calls: Vec<PickedCall>,
        mut slots: Vec<tokio::sync::OwnedSemaphorePermit>,
        grants: Vec<Grant>,
        asked: Instant,
    ) {
        let mut of_queue: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (call, grant) in calls.into_iter().zip(grants) {
            let granted = match grant {
                Grant::Granted { at, holds_slot } => {
                    let slot = holds_slot.then(|| ConcurrencySlot::new(&self.client, &self.limit, &call.token));
                    let (cost, position) = (call.next.cost, Some(call.next.position.clone()));
                    let grant = HeldGrant::new(&self.client, &self.limit, cost, at, slot, position, asked);
                    Some(Box::new(grant))
                }
                _ => None,
            };
            let Some(slot) = slots.pop() else { continue };
            self.last_queue.clone_from(&call.queue);
            of_queue.entry(call.queue.clone()).or_default().push((call, Turn { grant: granted, call: None }, slot));
        }
        let mut releases = JoinSet::new();
        let most_next = self.most_next();
        for (name, taken) in of_queue {
            if let (Some(worker), Some(queue)) = (self.served.get(&name), self.queues.get_mut(&name)) {
                // Until it is known better: these are not there any more.
                queue.next.drain(..taken.len().min(queue.next.len()));
                let announced = queue.announced.clone();
                let (worker, list) = (worker.clone(), self.list.clone());
                releases.spawn(async move { (name, announced, release(worker, &list, most_next, taken).await) });
            }
        }
        while let Some(Ok((name, announced, released))) = releases.join_next().await {
            if let (Some(queue), Some(released)) = (self.queues.get_mut(&name), released) {
                queue.take_over(released);
                queue.read_at = Some(announced);
            }
        }
    }

    /// Cancelled when the worker stops claiming.
    pub fn stop(&self) -> CancellationToken {
        self.served.first().map(|worker| worker.shared.stop.clone()).unwrap_or_default()
    }
}
