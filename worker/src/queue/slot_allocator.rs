//! Hands free slots to the queues that are ready to claim, in turn by their weights. A queue whose claim is not answered is not ready, so
//! it holds up no other.

use std::collections::HashMap;

use parking_lot::Mutex;
use redial_core::consumer::MAX_BATCH;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::held_tasks::Slots;
use super::rotation::Rotation;

/// Distributes the slots of a worker over its queues, which are known by their position.
#[derive(Debug)]
pub struct SlotAllocator {
    slots: Slots,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    rotation: Rotation,
    /// The queues that are ready to claim.
    ready: HashMap<usize, oneshot::Sender<Vec<OwnedSemaphorePermit>>>,
}

/// Withdraws a queue that is not ready any more.
struct Ready<'a> {
    allocator: &'a SlotAllocator,
    queue: usize,
}

impl SlotAllocator {
    /// Distributes these slots over queues with these weights.
    pub fn new(slots: Slots, weights: impl IntoIterator<Item = u32>) -> Self {
        Self { slots, turns: Mutex::new(Turns { rotation: Rotation::new(weights), ready: HashMap::new() }) }
    }

    /// The slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Waits until a slot is free and it is this queue's turn; then all free slots are its, up to a batch.
    pub async fn acquire(&self, queue: usize) -> Vec<OwnedSemaphorePermit> {
        let (turn, mut granted) = oneshot::channel();
        let _ready = self.enter(queue, turn);
        loop {
            tokio::select! {
                biased;
                Ok(free) = &mut granted => return free,
                Some(slot) = self.slots.acquire() => {
                    if let Some(free) = self.hand_out(queue, self.with_all_free(slot)) {
                        return free;
                    }
                }
                else => return Vec::new(), // There are no slots any more.
            }
        }
    }

    /// A queue has given all that it has.
    pub fn leave(&self, queue: usize) {
        self.turns.lock().rotation.leave(queue);
    }

    fn enter(&self, queue: usize, turn: oneshot::Sender<Vec<OwnedSemaphorePermit>>) -> Ready<'_> {
        let mut turns = self.turns.lock();
        turns.rotation.join(queue);
        turns.ready.insert(queue, turn);
        Ready { allocator: self, queue }
    }

    fn with_all_free(&self, slot: OwnedSemaphorePermit) -> Vec<OwnedSemaphorePermit> {
        let mut free = vec![slot];
        while free.len() < MAX_BATCH
            && let Some(slot) = self.slots.try_acquire()
        {
            free.push(slot);
        }
        free
    }

    /// Gives slots that a queue has acquired to the queue whose turn it is. Returns them if that is the same queue.
    fn hand_out(&self, by: usize, free: Vec<OwnedSemaphorePermit>) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut turns = self.turns.lock();
        let Turns { rotation, ready } = &mut *turns;
        if !ready.contains_key(&by) {
            return None; // It has just been given others.
        }
        let next = rotation.next(|queue| ready.contains_key(&queue))?;
        let turn = ready.remove(&next)?;
        if next == by {
            return Some(free);
        }
        // Should that queue not want them any more, they become free again.
        let _ = turn.send(free);
        None
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.allocator.turns.lock().ready.remove(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets everyone else run until nothing is left to do but to wait.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn freed_slots_go_to_the_queues_that_are_ready_by_their_weights() {
        let allocator = &SlotAllocator::new(Slots::new(1), [6, 1]);
        let turns = &Mutex::new(Vec::new());
        // Both are always ready, each for 70 claims.
        let claims = async |queue: usize| {
            while turns.lock().len() < 70 {
                let free = allocator.acquire(queue).await;
                turns.lock().push(queue);
                tokio::task::yield_now().await;
                drop(free);
            }
        };
        tokio::join!(claims(0), claims(1));
        let others = turns.lock()[..70].iter().filter(|queue| **queue == 1).count();
        assert_eq!(others, 10);
    }

    #[tokio::test]
    async fn a_queue_that_is_not_ready_any_more_keeps_no_slot() {
        let slots = Slots::new(2);
        let allocator = std::sync::Arc::new(SlotAllocator::new(slots.clone(), [1, 1]));
        let all = allocator.acquire(0).await;
        assert_eq!(all.len(), 2);
        let acquire = |queue| {
            tokio::spawn({
                let allocator = allocator.clone();
                async move { allocator.acquire(queue).await.len() }
            })
        };
        let (gone, other) = (acquire(1), acquire(0));
        settle().await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(all);
        assert_eq!(other.await.unwrap_or_default(), 2);
        assert_eq!(slots.in_use(), 0);
    }
}
