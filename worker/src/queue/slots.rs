//! The slots of a worker, which bound how many calls it makes at a time and how many tasks it holds.
//!
//! A task whose call has ended gives its slot to another task, and waits beyond the slots until Redis has stored what came of it. As many tasks
//! may do so as there are slots: half of them at once, and the others if Redis keeps them waiting, because the node that they need does not
//! answer. A call of an upstream that holds more than its share of the slots goes on beyond them as well, so that others can be made meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a worker, over all queues, and the room beyond them. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    free: Arc<Semaphore>,
    /// Room for tasks that have given up their slots.
    beyond: Arc<Semaphore>,
    /// The part of that room that may be lent: half as many as there are slots.
    lendable: Arc<Semaphore>,
    total: usize,
}

/// What a held task occupies.
#[derive(Debug)]
#[expect(dead_code, reason = "a permit is held, not read")]
pub enum Room {
    /// A slot.
    Slot(OwnedSemaphorePermit),
    /// Room beyond the slots.
    Beyond(OwnedSemaphorePermit),
    /// The same for a call in flight, in place of whose slot another one was lent.
    Lent(OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Slots {
    /// This many free slots, and room for as many tasks beyond them.
    pub fn new(total: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            beyond: Arc::new(Semaphore::new(total)),
            lendable: Arc::new(Semaphore::new(total / 2)),
            total,
        }
    }

    /// Waits for a free slot. `None`: there are no slots any more.
    pub async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// Takes the slots that are free, at most this many. If none is, waits a while for one.
    pub async fn acquire_some(&self, count: usize, patience: Duration) -> Vec<OwnedSemaphorePermit> {
        let mut slots: Vec<_> = (0..count).map_while(|_| self.try_acquire()).collect();
        if slots.is_empty()
            && let Ok(Some(slot)) = tokio::time::timeout(patience, self.acquire()).await
        {
            slots.push(slot);
            slots.extend((1..count).map_while(|_| self.try_acquire()));
        }
        slots
    }

    /// Takes a slot if one is free.
    pub fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// Takes room beyond the slots if there is any.
    pub fn try_beyond(&self) -> Option<OwnedSemaphorePermit> {
        self.beyond.clone().try_acquire_owned().ok()
    }

    /// Takes room beyond the slots for a task whose call has ended, provided that half of the room stays free for tasks that Redis keeps
    /// waiting and for lent slots. A worker with a single slot therefore holds one task at a time, as long as Redis answers.
    pub fn try_settle(&self) -> Option<OwnedSemaphorePermit> {
        let stays_free = self.beyond.available_permits() > self.total.div_ceil(2);
        if stays_free { self.try_beyond() } else { None }
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Takes room beyond the slots for a call in flight, if there is any that may be lent.
    pub fn try_lend(&self) -> Option<Room> {
        let lent = self.lendable.clone().try_acquire_owned().ok()?;
        Some(Room::Lent(lent, self.try_beyond()?))
    }

    /// How many are occupied.
    pub fn in_use(&self) -> usize {
        self.total.saturating_sub(self.free.available_permits())
    }

    /// How many tasks the worker holds, in slots and beyond them.
    pub fn held(&self) -> usize {
        self.in_use() + self.total.saturating_sub(self.beyond.available_permits())
    }

    /// Whether none is free.
    pub fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Waits until the worker holds no task any more.
    pub async fn all_free(&self) {
        let total = u32::try_from(self.total).unwrap_or(u32::MAX);
        // A task may leave its slot for the room beyond, but never the other way.
        let _ = self.free.acquire_many(total).await;
        let _ = self.beyond.acquire_many(total).await;
    }
}
