//! The tasks that this worker holds, each in its slot until it leaves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::consumer::Completion;
use redial_core::protocol::id::Token;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::clock::millis;
use super::slots::{Room, Slots};
use crate::http::answer_memory::HeldMemory;
use crate::in_flight::calls::{CallInFlight, UpstreamCalls};

/// How long a task may keep its slot on its way to its call, or back to Redis, before it gives it to another one at any rate. The first is longer
/// than the gates may take in all, the second than Redis takes from 200 ms away.
const GATE_PATIENCE: Duration = Duration::from_secs(7);
const SETTLING_PATIENCE: Duration = Duration::from_secs(1);
/// During its call a task keeps its slot.
const NEVER: u64 = u64::MAX;

/// The tasks of one queue that this worker holds.
#[derive(Debug)]
pub struct HeldTasks {
    slots: Slots,
    tasks: Mutex<HashMap<Token, Arc<HeldState>>>,
    /// Tokens under which this worker has asked for tasks, until it has the answer.
    expected: Mutex<HashSet<Token>>,
    registered_claims: AtomicU64,
    started: Instant,
    /// When a task last entered or left a slot, in ms since `started`.
    last_change_ms: AtomicU64,
    /// Tasks whose story panicked, until someone gives them up.
    panicked: Mutex<Vec<Token>>,
}

/// A task that this worker holds, in its slot. Dropping it frees the slot.
#[derive(Debug)]
pub struct HeldTask {
    held: Arc<HeldTasks>,
    token: Token,
    state: Arc<HeldState>,
}

#[derive(Debug)]
struct HeldState {
    lost: CancellationToken,
    occupied: Mutex<Occupied>,
    /// From when on the task gives its slot to another one if that needs it, in ms since the [`HeldTasks`] started.
    overdue_at_ms: AtomicU64,
}

/// What a task occupies.
#[derive(Debug, Default)]
struct Occupied {
    /// `None` once the task has left.
    room: Option<Room>,
    /// Its call while it is in flight.
    call: Option<CallInFlight>,
    /// The memory that its answer has, until its result is stored.
    memory: Option<HeldMemory>,
}

/// A task that succeeded. It keeps its slot until Redis has the result.
#[derive(Debug)]
pub struct SucceededTask {
    pub completion: Completion,
    pub held: HeldTask,
}

impl HeldTasks {
    /// None yet. They come in these slots.
    pub fn new(slots: Slots) -> Self {
        Self {
            slots,
            tasks: Mutex::default(),
            expected: Mutex::default(),
            registered_claims: AtomicU64::default(),
            started: Instant::now(),
            last_change_ms: AtomicU64::default(),
            panicked: Mutex::default(),
        }
    }
    /// Registers a claimed task. The slot stays occupied until the [`HeldTask`] is dropped.
    pub fn hold(self: &Arc<Self>, token: &Token, slot: OwnedSemaphorePermit) -> HeldTask {
        let state = Arc::new(HeldState {
            lost: CancellationToken::new(),
            occupied: Mutex::new(Occupied { room: Some(Room::Slot(slot)), call: None, memory: None }),
            overdue_at_ms: AtomicU64::new(self.in_ms(GATE_PATIENCE)),
        });
        self.tasks.lock().insert(token.clone(), state.clone());
        self.record_change();
        HeldTask { held: self.clone(), token: token.clone(), state }
    }

    /// Takes the slots of tasks that Redis keeps waiting, as long as there is room beyond the slots for them. Returns how many.
    pub fn free_overdue_slots(&self) -> usize {
        let now = self.in_ms(Duration::ZERO);
        let tasks = self.tasks.lock();
        let overdue = tasks.values().filter(|state| state.overdue_at_ms.load(Ordering::Relaxed) <= now);
        let freed = overdue.map_while(|state| state.occupied.lock().give_up_slot(|| self.slots.try_beyond()));
        freed.filter(|freed| *freed).count()
    }

    /// Lends slots in place of those that at most this many slow calls to an upstream hold. Returns how many.
    pub fn lend_slots(&self, upstream: &Arc<UpstreamCalls>, limit: usize) -> usize {
        let tasks = self.tasks.lock();
        let lent = tasks.values().map_while(|state| state.lend_slot(&self.slots, upstream)).filter(|lent| *lent);
        lent.take(limit).count()
    }

    /// The time at which `wait` will have passed, in ms since the start.
    fn in_ms(&self, wait: Duration) -> u64 {
        millis(self.started.elapsed() + wait)
    }

    /// When a task last entered or left a slot.
    pub fn last_change(&self) -> Instant {
        self.started + Duration::from_millis(self.last_change_ms.load(Ordering::Relaxed))
    }

    fn record_change(&self) {
        self.last_change_ms.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// Whether this worker holds a task under this token, as far as it knows, or may do so soon.
    pub fn contains(&self, token: &Token) -> bool {
        self.expected.lock().contains(token) || self.tasks.lock().contains_key(token)
    }

    /// Tasks may come under these tokens.
    pub fn expect(&self, tokens: impl IntoIterator<Item = Token>) {
        self.expected.lock().extend(tokens);
    }

    /// What may come under these tokens has come, and is held.
    pub fn end_expecting<'a>(&self, tokens: impl IntoIterator<Item = &'a Token>) {
        let mut expected = self.expected.lock();
        for token in tokens {
            expected.remove(token);
        }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.tasks.lock().is_empty()
    }

    /// The tokens of all held tasks.
    pub fn tokens(&self) -> Vec<Token> {
        self.tasks.lock().keys().cloned().collect()
    }

    /// Tells these tasks that their leases are lost.
    pub fn mark_lost(&self, tokens: impl IntoIterator<Item = Token>) {
        let tasks = self.tasks.lock();
        for state in tokens.into_iter().filter_map(|token| tasks.get(&token)) {
            state.lost.cancel();
        }
    }

    /// All tasks of the claims below `number` are registered.
    pub fn set_registered_claims(&self, number: u64) {
        self.registered_claims.store(number, Ordering::Relaxed);
    }

    /// The tasks that were dropped in a panic since the last call.
    pub fn take_panicked(&self) -> Vec<Token> {
        std::mem::take(&mut *self.panicked.lock())
    }

    /// The number of the first claim whose tasks may not be registered yet.
    pub fn registered_claims(&self) -> u64 {
        self.registered_claims.load(Ordering::Relaxed)
    }
}

impl Occupied {
    /// Moves the task out of its slot, if it has one, into the room that `beyond` finds. Returns whether it had one; `None` if there is no
    /// room.
    fn give_up_slot(&mut self, beyond: impl FnOnce() -> Option<OwnedSemaphorePermit>) -> Option<bool> {
        if matches!(self.room, Some(Room::Slot(_))) {
            self.room = Some(Room::Beyond(beyond()?));
            return Some(true);
        }
        Some(false)
    }
}

impl HeldState {
    /// Lends a slot in place of this one, if it is that of a slow call to this upstream. `None`: there is no more to lend.
    fn lend_slot(&self, slots: &Slots, upstream: &Arc<UpstreamCalls>) -> Option<bool> {
        let Occupied { room, call, .. } = &mut *self.occupied.lock();
        let Some(call) = call.as_mut().filter(|call| call.may_be_lent_for(upstream)) else { return Some(false) };
        if matches!(room, Some(Room::Slot(_))) {
            *room = Some(slots.try_lend()?);
            call.set_lent();
            return Some(true);
        }
        Some(false)
    }
}

impl HeldTask {
    /// Waits until the task's lease is known to be lost.
    pub async fn lease_lost(&self) {
        self.state.lost.cancelled().await;
    }

    /// The call begins, and is in flight until [`begin_settling`](Self::begin_settling). `false`: the task has no slot any more, because Redis kept it waiting for too long, and may not make it.
    #[must_use]
    pub fn begin_call(&self, mut call: Option<CallInFlight>) -> bool {
        self.state.overdue_at_ms.store(NEVER, Ordering::Relaxed);
        let mut occupied = self.state.occupied.lock();
        let has_slot = matches!(occupied.room, Some(Room::Slot(_)));
        if has_slot {
            call.as_mut().into_iter().for_each(CallInFlight::begin);
            occupied.call = call;
        }
        has_slot
    }

    /// The answer is held until the task leaves.
    pub fn keep_memory(&self, memory: HeldMemory) {
        if !memory.is_empty() {
            self.state.occupied.lock().memory = Some(memory);
        }
    }

    /// There is no call to make any more: what is left is for Redis to store. Meanwhile, another task may have the slot.
    pub fn begin_settling(&self) {
        self.state.overdue_at_ms.store(self.held.in_ms(SETTLING_PATIENCE), Ordering::Relaxed);
        let mut occupied = self.state.occupied.lock();
        drop(occupied.call.take());
        // Without room it keeps the slot for now.
        let _ = occupied.give_up_slot(|| self.held.slots.try_settle());
    }
}

impl Drop for HeldTask {
    fn drop(&mut self) {
        self.held.tasks.lock().remove(&self.token);
        drop(std::mem::take(&mut *self.state.occupied.lock()));
        self.held.record_change();
        if std::thread::panicking() {
            self.held.panicked.lock().push(self.token.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use redial_core::WorkerId;
    use redial_core::consumer::DrainId;

    use super::*;

    /// A worker with so many slots that makes as many calls.
    fn calling(total: usize) -> (Slots, Vec<HeldTask>) {
        let slots = Slots::new(total);
        let held = Arc::new(HeldTasks::new(slots.clone()));
        let permits = std::iter::from_fn(|| slots.try_acquire());
        let worker = WorkerId::random();
        let token = |n| DrainId::new(1).token(&worker, n);
        let tasks = permits.enumerate().map(|(n, slot)| held.hold(&token(n), slot)).collect();
        (slots, tasks)
    }

    #[test]
    fn a_task_whose_call_has_ended_gives_its_slot_to_another_while_half_of_the_room_beyond_stays_free() {
        let (slots, tasks) = calling(4);
        assert!(slots.is_full() && tasks.iter().all(|task| task.begin_call(None)));
        tasks.iter().for_each(HeldTask::begin_settling);
        assert_eq!((slots.in_use(), slots.held()), (2, 4));
        assert!(slots.try_lend().is_some());
        drop(tasks);
        assert_eq!((slots.in_use(), slots.held()), (0, 0));
    }

    #[test]
    fn the_only_slot_is_free_when_redis_has_the_result() {
        let (slots, tasks) = calling(1);
        tasks.iter().for_each(HeldTask::begin_settling);
        assert!(slots.is_full());
        drop(tasks);
        assert!(!slots.is_full());
    }
}
