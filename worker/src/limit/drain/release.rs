//! Takes calls whose turn it is from a wait list into this worker's slots, and starts them.

use std::collections::HashMap;

use redial_core::consumer::{ReleasedTasks, WaitList};
use redial_core::limit::{NextInTurn, TakenInTurn};
use redial_core::protocol::id::Token;
use tokio::sync::OwnedSemaphorePermit;

use crate::queue::queue_fetcher::bury_unreadable;
use crate::queue::queue_worker::QueueWorker;
use crate::task::execute::execute;
use crate::task::types::Turn;

/// A call that waits, picked to ask for.
#[derive(Debug)]
pub struct PickedCall {
    /// Its queue.
    pub queue: String,
    /// What is known of it.
    pub next: NextInTurn,
    /// The token of its next delivery.
    pub token: Token,
}

/// Takes calls of one queue and starts them, each with what it brings along, which goes back if the call is not there any more. Returns
/// who is next; `None` if Redis refuses, or the worker aborts.
pub async fn release(
    worker: QueueWorker,
    list: &WaitList,
    most_next: usize,
    calls: Vec<(PickedCall, Turn, OwnedSemaphorePermit)>,
) -> Option<ReleasedTasks> {
    let mut taken = Vec::with_capacity(calls.len());
    let mut turns = HashMap::with_capacity(calls.len());
    for (call, turn, slot) in calls {
        taken.push(TakenInTurn { serial: call.next.serial, token: call.token.clone() });
        turns.insert(call.token, (turn, slot));
    }
    let queue = worker.queue.clone();
    let tokens: Vec<Token> = taken.iter().map(|task| task.token.clone()).collect();
    queue.held.expect(tokens.iter().cloned());
    let take = || queue.consumer.release_in_turn(list, &taken, most_next);
    let released = queue.retry.retry("release_in_turn", take).await;
    if let Ok(released) = &released {
        queue.activity.note();
        worker.shared.metrics.claimed(worker.name(), released.entries.len());
    }
    let Ok(mut released) = released else {
        // If they were taken all the same, they are found as strays.
        queue.held.end_expecting(&tokens);
        return None;
    };
    for entry in std::mem::take(&mut released.entries) {
        if let Some((turn, slot)) = turns.remove(&entry.token) {
            let held = worker.hold(&entry.token, slot);
            tokio::spawn(execute(worker.clone(), entry, held, turn));
        }
    }
    for (token, error) in std::mem::take(&mut released.unreadable) {
        tokio::spawn(bury_unreadable(worker.clone(), token, error));
    }
    queue.held.end_expecting(&tokens);
    Some(released)
}
