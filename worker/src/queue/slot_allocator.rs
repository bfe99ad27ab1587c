//! Hands free slots to the queues that are ready to claim, in turn by their weights. One claims at a time, so that what becomes free
//! meanwhile goes to the queue whose turn it is next; but a claim that is not answered soon holds up no other queue.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redial_core::consumer::MAX_BATCH;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::rotation::Rotation;
use super::slots::Slots;

/// Distributes the slots of a worker over its queues, which are known by their position.
#[derive(Debug)]
pub struct SlotAllocator {
    slots: Slots,
    /// Whose turn it is: one permit.
    turn: Arc<Semaphore>,
    queues: Mutex<ReadyQueues>,
}

/// A queue's turn to claim.
#[derive(Debug, Default)]
pub struct ClaimTurn {
    /// The slots that it may fill.
    pub slots: Vec<OwnedSemaphorePermit>,
    /// While it is held, it is no other queue's turn.
    pub hold: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct ReadyQueues {
    rotation: Rotation,
    /// The queues that wait for their turn.
    waiting: HashMap<usize, oneshot::Sender<ClaimTurn>>,
}

/// Withdraws a queue that does not wait any more.
struct Waiting<'a> {
    allocator: &'a SlotAllocator,
    queue: usize,
}

impl SlotAllocator {
    /// Distributes these slots over queues with these weights.
    pub fn new(slots: Slots, weights: impl IntoIterator<Item = u32>) -> Self {
        let queues = ReadyQueues { rotation: Rotation::new(weights), waiting: HashMap::new() };
        Self { slots, turn: Arc::new(Semaphore::new(1)), queues: Mutex::new(queues) }
    }

    /// The slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Waits until a slot is free and it is this queue's turn; then all free slots are its, up to a batch.
    pub async fn acquire(&self, queue: usize) -> ClaimTurn {
        let (sender, mut granted) = oneshot::channel();
        let _waiting = self.enter(queue, sender);
        loop {
            let hold = tokio::select! {
                biased;
                Ok(turn) = &mut granted => return turn,
                Ok(hold) = self.turn.clone().acquire_owned() => hold,
                else => return ClaimTurn::default(), // There are no turns any more.
            };
            let Some(slot) = self.slots.acquire().await else { return ClaimTurn::default() };
            let turn = ClaimTurn { slots: self.with_all_free(slot), hold: Some(hold) };
            if let Some(turn) = self.hand_out(queue, turn) {
                return turn;
            }
        }
    }

    /// A queue has given all that it has.
    pub fn leave(&self, queue: usize) {
        self.queues.lock().rotation.leave(queue);
    }

    fn enter(&self, queue: usize, sender: oneshot::Sender<ClaimTurn>) -> Waiting<'_> {
        let mut queues = self.queues.lock();
        queues.rotation.join(queue);
        queues.waiting.insert(queue, sender);
        Waiting { allocator: self, queue }
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

    /// Gives a turn that one queue has taken to the queue whose turn it is. Returns it if that is the same one.
    fn hand_out(&self, by: usize, turn: ClaimTurn) -> Option<ClaimTurn> {
        let mut queues = self.queues.lock();
        let ReadyQueues { rotation, waiting } = &mut *queues;
        let next = rotation.next(|queue| waiting.contains_key(&queue))?;
        let sender = waiting.remove(&next)?;
        if next == by {
            return Some(turn);
        }
        // Should that queue not want it any more, it is dropped.
        let _ = sender.send(turn);
        None
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.allocator.queues.lock().waiting.remove(&self.queue);
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
                let turn = allocator.acquire(queue).await;
                turns.lock().push(queue);
                tokio::task::yield_now().await;
                drop(turn);
            }
        };
        tokio::join!(claims(0), claims(1));
        let others = turns.lock()[..70].iter().filter(|queue| **queue == 1).count();
        assert_eq!(others, 10);
    }

    #[tokio::test]
    async fn a_queue_that_is_not_ready_any_more_keeps_no_slot() {
        let slots = Slots::new(2);
        let allocator = Arc::new(SlotAllocator::new(slots.clone(), [1, 1]));
        let all = allocator.acquire(0).await;
        assert_eq!(all.slots.len(), 2);
        let acquire = |queue| {
            tokio::spawn({
                let allocator = allocator.clone();
                async move { allocator.acquire(queue).await.slots.len() }
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

    #[tokio::test]
    async fn slots_that_become_free_during_a_claim_go_to_the_queue_whose_turn_is_next() {
        let slots = Slots::new(2);
        let allocator = &SlotAllocator::new(slots.clone(), [1, 1]);
        let ClaimTurn { slots: mut claimed, hold } = allocator.acquire(0).await;
        let second = allocator.acquire(1);
        tokio::pin!(second);
        drop(claimed.pop());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await.is_err());
        // Answered, or not answered for too long.
        drop(hold);
        assert_eq!(second.await.slots.len(), 1);
    }
}
