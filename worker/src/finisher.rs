//! Completes tasks, as many at once as have come together: one at idle, up to a hundred under load.

use std::sync::Arc;

use redial_core::consumer::{Completion, MAX_BATCH};
use tokio::sync::mpsc;

use crate::persist::persist_counting;
use crate::settle;
use crate::worker::{Lane, Slot, Worker};

/// A task with its good answer, and the slot that it holds until Redis has the answer.
#[derive(Debug)]
pub struct Finished {
    pub answer: Completion,
    pub slot: Slot,
}

/// The most bytes of one batch, beyond its first answer: Redis closes a connection whose command is too large.
const MAX_BYTES: usize = 4 << 20;

/// Runs until every sender is gone. What is waiting is bounded by the slots.
pub async fn run(worker: Arc<Worker>, lane: Arc<Lane>, mut finished: mpsc::UnboundedReceiver<Finished>) {
    let mut waiting = Vec::with_capacity(MAX_BATCH);
    while finished.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        while !waiting.is_empty() {
            let batch: Vec<Finished> = waiting.drain(..batch_size(&waiting)).collect();
            let (answers, slots): (Vec<Completion>, Vec<Slot>) =
                batch.into_iter().map(|finished| (finished.answer, finished.slot)).unzip();
            let taken = persist_counting(&worker, &lane, "finish", || lane.consumer.finish(&answers)).await;
            if let Some((done, again)) = taken {
                report(&worker, &lane, &answers, &done, again);
            }
            drop(slots);
        }
    }
}

/// How many of the first answers go together.
fn batch_size(waiting: &[Finished]) -> usize {
    let mut bytes = 0;
    let fit = waiting.iter().take_while(|finished| {
        bytes += finished.answer.result.len();
        bytes <= MAX_BYTES
    });
    fit.count().max(1)
}

fn report(worker: &Worker, lane: &Lane, answers: &[Completion], done: &[bool], sent_again: bool) {
    for (answer, done) in answers.iter().zip(done) {
        if *done {
            worker.metrics.complete(&lane.name);
            tracing::debug!(task = %answer.id, queue = %lane.name, "answered");
        } else {
            settle::lost(worker, lane, Some(&answer.id), sent_again);
        }
    }
}
