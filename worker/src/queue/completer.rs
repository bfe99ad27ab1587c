//! Completes tasks in batches: alone while the worker is idle, up to a hundred at once under load.

use std::sync::Arc;

use redial_core::consumer::{Completion, MAX_BATCH};
use redial_core::{Consumer, TaskId};
use tokio::sync::mpsc;

use super::held_tasks::HeldTask;
use super::redis_retry::{RedisRetry, Resent, Stored};
use crate::observe::metrics::Metrics;

/// A task that succeeded. It keeps its slot until Redis has the result.
#[derive(Debug)]
pub struct SucceededTask {
    pub completion: Completion,
    pub held: HeldTask,
}

/// How many bytes of results go in one batch, beyond the first: Redis closes a connection whose command is too large.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Writes the results of one queue's tasks.
#[derive(Debug)]
pub struct Completer {
    pub consumer: Arc<Consumer>,
    pub retry: Arc<RedisRetry>,
    pub metrics: Arc<Metrics>,
}

impl Completer {
    /// Runs until every sender is gone. The slots bound how many tasks wait in the channel.
    pub async fn run(self, mut finished: mpsc::UnboundedReceiver<SucceededTask>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        while finished.recv_many(&mut waiting, MAX_BATCH).await > 0 {
            while !waiting.is_empty() {
                let batch: Vec<SucceededTask> = waiting.drain(..batch_size(&waiting)).collect();
                let (completions, held): (Vec<Completion>, Vec<HeldTask>) =
                    batch.into_iter().map(|task| (task.completion, task.held)).unzip();
                let finish = || self.consumer.finish(&completions);
                if let Some(stored) = self.retry.retry_until_stored("finish", finish).await {
                    self.report(&completions, &stored);
                }
                drop(held);
            }
        }
    }

    fn report(&self, completions: &[Completion], stored: &Stored<Vec<bool>>) {
        let queue = self.consumer.queue().name().as_str();
        for (completion, was_stored) in completions.iter().zip(&stored.value) {
            if *was_stored {
                self.metrics.completed(queue);
                tracing::debug!(task = %completion.id, queue, "task completed");
            } else {
                report_not_stored(&self.metrics, queue, Some(&completion.id), stored.resent);
            }
        }
    }
}

/// How many of the first tasks go in one batch.
fn batch_size(waiting: &[SucceededTask]) -> usize {
    let mut bytes = 0;
    let fitting = waiting.iter().take_while(|task| {
        bytes += task.completion.result.len();
        bytes <= MAX_BATCH_BYTES
    });
    fitting.count().max(1)
}

/// Redis rejected the step of a task. Either its lease was lost and another worker has it; or the command was resent because no
/// reply came, and Redis had executed the first copy.
pub fn report_not_stored(metrics: &Metrics, queue: &str, id: Option<&TaskId>, resent: Resent) {
    let task = id.map_or("(no id)", TaskId::as_str);
    match resent {
        Resent::Yes => {
            tracing::info!(
                task,
                queue,
                "resent after no reply came: Redis had stored it, or the lease was lost meanwhile"
            );
        }
        Resent::No => {
            metrics.lost_lease(queue);
            tracing::warn!(
                task,
                queue,
                "lease lost: another worker has the task, or it was cancelled; nothing was written"
            );
        }
    }
}
