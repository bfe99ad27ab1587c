//! The tasks that this worker holds, and the slots that bound their number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::consumer::Completion;
use redial_core::protocol::id::Token;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::clock::millis;

/// The slots of a worker: how many tasks it may hold, over all queues. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    free: Arc<Semaphore>,
    total: usize,
}

/// The tasks of one queue that this worker holds.
#[derive(Debug)]
pub struct HeldTasks {
    tasks: Mutex<HashMap<Token, CancellationToken>>,
    registered_claims: AtomicU64,
    started: Instant,
    /// When a task last entered or left a slot, in ms since `started`.
    last_change_ms: AtomicU64,
    /// Tasks whose story panicked, until someone gives them up.
    panicked: Mutex<Vec<Token>>,
}

impl Default for HeldTasks {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            registered_claims: AtomicU64::default(),
            started: Instant::now(),
            last_change_ms: AtomicU64::default(),
            panicked: Mutex::default(),
        }
    }
}

/// A task that this worker holds, in its slot. Dropping it frees the slot.
#[derive(Debug)]
pub struct HeldTask {
    _slot: OwnedSemaphorePermit,
    held: Arc<HeldTasks>,
    token: Token,
    lost: CancellationToken,
}

/// A task that succeeded. It keeps its slot until Redis has the result.
#[derive(Debug)]
pub struct SucceededTask {
    pub completion: Completion,
    pub held: HeldTask,
}

impl Slots {
    /// This many free slots.
    pub fn new(total: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(total)), total }
    }

    /// Waits for a free slot. `None`: there are no slots any more.
    pub async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// Takes a slot if one is free.
    pub fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// How many are occupied.
    pub fn in_use(&self) -> usize {
        self.total.saturating_sub(self.free.available_permits())
    }

    /// Whether none is free.
    pub fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Waits until all are free.
    pub async fn all_free(&self) {
        let total = u32::try_from(self.total).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(total).await;
    }
}

impl HeldTasks {
    /// Registers a claimed task. The slot stays occupied until the [`HeldTask`] is dropped.
    pub fn hold(self: &Arc<Self>, token: &Token, slot: OwnedSemaphorePermit) -> HeldTask {
        let lost = CancellationToken::new();
        self.tasks.lock().insert(token.clone(), lost.clone());
        self.record_change();
        HeldTask { _slot: slot, held: self.clone(), token: token.clone(), lost }
    }

    /// When a task last entered or left a slot.
    pub fn last_change(&self) -> Instant {
        self.started + Duration::from_millis(self.last_change_ms.load(Ordering::Relaxed))
    }

    fn record_change(&self) {
        self.last_change_ms.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// Whether this worker holds a task under this token, as far as it knows.
    pub fn contains(&self, token: &Token) -> bool {
        self.tasks.lock().contains_key(token)
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
        for lost in tokens.into_iter().filter_map(|token| tasks.get(&token)) {
            lost.cancel();
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

impl HeldTask {
    /// Waits until the task's lease is known to be lost.
    pub async fn lease_lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for HeldTask {
    fn drop(&mut self) {
        self.held.tasks.lock().remove(&self.token);
        self.held.record_change();
        if std::thread::panicking() {
            self.held.panicked.lock().push(self.token.clone());
        }
    }
}
