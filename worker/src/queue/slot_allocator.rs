//! Hands free slots to the queues that are ready to claim, in turn by their weights; the partitions of one share its turns. One claims at a time, so that what becomes free
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
    /// Of queues as users know them.
    rotation: Rotation,
    /// The parts of each of these, by their positions. A queue without partitions has one.
    parts: Vec<Vec<usize>>,
    /// What is known of each part.
    states: Vec<PartState>,
    /// How many turns there were.
    turns: u64,
    /// The parts that wait for their turn.
    waiting: HashMap<usize, oneshot::Sender<ClaimTurn>>,
}

/// A queue, or a part of one.
#[derive(Debug)]
struct PartState {
    /// The position of its queue in the rotation.
    queue: usize,
    is_busy: bool,
    /// When it last had a turn: of several parts, the one comes first that has waited longest.
    last_turn: u64,
}

impl ReadyQueues {
    fn new(weights: Vec<u32>) -> Self {
        let state = |queue| PartState { queue, is_busy: false, last_turn: 0 };
        Self {
            parts: (0..weights.len()).map(|position| vec![position]).collect(),
            states: (0..weights.len()).map(state).collect(),
            rotation: Rotation::new(weights),
            turns: 0,
            waiting: HashMap::new(),
        }
    }

    fn add(&mut self, queue: usize) -> usize {
        let position = self.states.len();
        self.states.push(PartState { queue, is_busy: false, last_turn: 0 });
        self.parts[queue].push(position);
        position
    }

    fn join(&mut self, position: usize) {
        self.states[position].is_busy = true;
        self.rotation.join(self.states[position].queue);
    }

    fn leave(&mut self, position: usize) {
        self.states[position].is_busy = false;
        let queue = self.states[position].queue;
        if self.parts[queue].iter().all(|part| !self.states[*part].is_busy) {
            self.rotation.leave(queue);
        }
    }

    /// The part whose turn it is, among those that wait.
    fn next(&mut self) -> Option<(usize, oneshot::Sender<ClaimTurn>)> {
        let Self { rotation, parts, states, waiting, .. } = self;
        let queue = rotation.next(|queue| parts[queue].iter().any(|part| waiting.contains_key(part)))?;
        let ready = parts[queue].iter().copied().filter(|part| waiting.contains_key(part));
        let next = ready.min_by_key(|part| states[*part].last_turn)?;
        self.turns += 1;
        self.states[next].last_turn = self.turns;
        Some((next, self.waiting.remove(&next)?))
    }
}

/// Withdraws a queue that does not wait any more.
struct Waiting<'a> {
    allocator: &'a SlotAllocator,
    queue: usize,
}

impl SlotAllocator {
    /// Distributes these slots over queues with these weights.
    pub fn new(slots: Slots, weights: impl IntoIterator<Item = u32>) -> Self {
        let queues = ReadyQueues::new(weights.into_iter().collect());
        Self { slots, turn: Arc::new(Semaphore::new(1)), queues: Mutex::new(queues) }
    }

    /// Adds a partition of the queue at this position: the two share its turns. Returns the partition's position.
    pub fn add(&self, queue: usize) -> usize {
        self.queues.lock().add(queue)
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
        self.queues.lock().leave(queue);
    }

    fn enter(&self, queue: usize, sender: oneshot::Sender<ClaimTurn>) -> Waiting<'_> {
        let mut queues = self.queues.lock();
        queues.join(queue);
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
        let (next, sender) = self.queues.lock().next()?;
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

    /// A queue that is always ready, until there were this many turns of all.
    async fn claims(allocator: &SlotAllocator, turns: &Mutex<Vec<usize>>, count: usize, queue: usize) {
        while turns.lock().len() < count {
            let turn = allocator.acquire(queue).await;
            turns.lock().push(queue);
            tokio::task::yield_now().await;
            drop(turn);
        }
    }

    #[tokio::test]
    async fn freed_slots_go_to_the_queues_that_are_ready_by_their_weights() {
        let allocator = &SlotAllocator::new(Slots::new(1), [6, 1]);
        let turns = &Mutex::new(Vec::new());
        let claims = |queue| claims(allocator, turns, 70, queue);
        tokio::join!(claims(0), claims(1));
        let others = turns.lock()[..70].iter().filter(|queue| **queue == 1).count();
        assert_eq!(others, 10);
    }

    #[tokio::test]
    async fn a_queue_with_partitions_has_no_more_turns_than_one_without() {
        let allocator = &SlotAllocator::new(Slots::new(1), [1, 1]);
        let partitions = [allocator.add(1), allocator.add(1), allocator.add(1)];
        let turns = &Mutex::new(Vec::new());
        let claims = |queue| claims(allocator, turns, 80, queue);
        tokio::join!(claims(0), claims(1), claims(partitions[0]), claims(partitions[1]), claims(partitions[2]));
        let of = |queue| turns.lock()[..80].iter().filter(|turn| **turn == queue).count();
        assert!(of(0).abs_diff(40) <= 1, "{}", of(0));
        for part in [1, partitions[0], partitions[1], partitions[2]] {
            assert!(of(part).abs_diff(10) <= 1, "part {part}: {}", of(part));
        }
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
