//! Completes tasks in batches: alone while the worker is idle, up to a hundred at once under load.
//!
//! A batch that Redis refuses is split until the tasks at fault are alone: they end as dead letters, and all others as they should. This
//! happens beside the completer, so that later batches do not wait. So does the end of a task with a large result.

use std::sync::Arc;
use std::time::Duration;

use redial_core::consumer::{Completion, MAX_BATCH};
use redial_core::memo::MemoKey;
use redial_core::protocol::follow_ups::include_delivery;
use redial_core::{Consumer, Error, QueueName, TaskId};
use tokio::sync::mpsc;

use super::held_tasks::{HeldTask, SucceededTask};
use super::queue_worker::SharedHandles;
use super::redis_retry::{NotStored, RedisRetry, Resent, Stored};
use crate::observe::events::EventRecorder;
use crate::observe::metrics::Metrics;
use crate::task::contain::contain;
use crate::task::events;
use crate::task::refused::{bury_completion, give_back_as_crashed};

/// How many bytes of results go in one batch, beyond the first: Redis closes a connection whose command is too large.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Writes the results of one queue's tasks.
#[derive(Debug, Clone)]
pub struct Completer {
    pub consumer: Arc<Consumer>,
    /// The queue as its users know it.
    pub whole: QueueName,
    pub retry: Arc<RedisRetry>,
    pub shared: Arc<SharedHandles>,
    pub events: Arc<EventRecorder>,
}

impl Completer {
    /// Runs until every sender is gone. The slots bound how many tasks wait in the channel.
    pub async fn run(self, mut finished: mpsc::UnboundedReceiver<SucceededTask>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        while finished.recv_many(&mut waiting, MAX_BATCH).await > 0 {
            for SucceededTask { completion, held } in waiting.extract_if(.., |task| task.completion.is_large()) {
                self.beside(vec![held], |completer| async move {
                    if let Some((part, error)) = completer.finish_batch(vec![completion]).await {
                        completer.finish_parts(part, error).await;
                    }
                });
            }
            while !waiting.is_empty() {
                let batch: Vec<SucceededTask> = waiting.drain(..batch_size(&waiting)).collect();
                let (completions, held): (Vec<Completion>, Vec<HeldTask>) =
                    batch.into_iter().map(|task| (task.completion, task.held)).unzip();
                if let Some((refused, error)) = self.finish_batch(completions).await {
                    self.beside(held, |completer| async move { completer.finish_parts(refused, error).await });
                }
            }
        }
    }

    /// Completes these tasks together; returns them if Redis refuses to.
    async fn finish_batch(&self, completions: Vec<Completion>) -> Option<(Vec<Completion>, Arc<Error>)> {
        match self.retry.retry_until_stored("finish", || self.consumer.finish(&completions)).await {
            Ok(stored) => self.report(&completions, &stored),
            Err(NotStored::Refused(error)) => return Some((completions, error)),
            Err(NotStored::Aborted) => {}
        }
        None
    }

    /// Ends tasks in the background. They keep their slots until then.
    fn beside<F>(&self, held: Vec<HeldTask>, end: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let end = end(self.clone());
        tokio::spawn(async move {
            let mut end = Box::pin(end);
            if let Err(panic) = contain(end.as_mut()).await {
                tracing::error!(
                    panic,
                    "a panic while the results of some tasks were stored: they stay with this worker's lease"
                );
            }
            drop(held);
        });
    }

    /// Completes the tasks of a refused batch one part at a time.
    async fn finish_parts(&self, completions: Vec<Completion>, error: Arc<Error>) {
        let mut parts = vec![(completions, error)];
        while let Some((mut part, error)) = parts.pop() {
            if part.len() <= 1 {
                for completion in &part {
                    self.end_refused(completion, &error).await;
                }
                continue;
            }
            let half = part.split_off(part.len() / 2);
            for half in [half, part] {
                // Some may have been stored with the refused batch, which Redis does not roll back.
                match self.retry.retry("finish", || self.consumer.finish(&half)).await {
                    Ok(value) => self.report(&half, &Stored { value, resent: Resent::Yes }),
                    Err(NotStored::Refused(error)) => parts.push((half, error)),
                    Err(NotStored::Aborted) => return,
                }
            }
        }
    }

    /// Ends the one task whose completion Redis refuses.
    async fn end_refused(&self, completion: &Completion, error: &Error) {
        let Self { consumer, retry, shared, whole, .. } = self;
        let queue = whole.as_str();
        let memo_for = |mut task: redial_core::Task| {
            // The tenant of the queue is part of its key.
            shared.config.rules.assign_tenant(&mut task, consumer.queue().name()).ok()?;
            MemoKey::idempotency(&task, &shared.config.upstreams.current().identity_for(&task))
        };
        let max_bytes = shared.config.max_task_bytes;
        match bury_completion(retry, consumer, max_bytes, memo_for, completion, error).await {
            Ok(Some(result)) => {
                if let Some(reason) = result.reason {
                    shared.metrics.dead(queue, reason);
                    shared.statistics.of(whole).dead(reason);
                }
                events::done(&self.events, &result);
                let error = result.error.as_deref().unwrap_or_default();
                tracing::warn!(task = %completion.id, queue, error, "task is dead: Redis refuses its result");
            }
            Ok(None) => report_not_stored(&shared.metrics, queue, Some(&completion.id), Resent::Yes),
            Err(NotStored::Refused(error)) => {
                tracing::error!(
                    task = %completion.id,
                    queue,
                    %error,
                    "Redis refuses every way to end this task: giving it up, which counts as a crash of the task"
                );
                give_back_as_crashed(retry, &shared.metrics, consumer, &completion.token).await;
            }
            Err(NotStored::Aborted) => {}
        }
    }

    fn report(&self, completions: &[Completion], stored: &Stored<Vec<bool>>) {
        let queue = self.whole.as_str();
        let metrics = &self.shared.metrics;
        for (completion, was_stored) in completions.iter().zip(&stored.value) {
            if *was_stored {
                wake_for_delivery(&self.shared, self.consumer.queue().name(), completion);
                metrics.queues.completed(queue);
                events::done_as_stored(&self.events, &completion.id, &completion.result);
                tracing::debug!(task = %completion.id, queue, "task completed");
            } else {
                report_not_stored(metrics, queue, Some(&completion.id), stored.resent);
            }
        }
    }
}

/// Has a delivery claimed that was stored with the end of a task: nobody else knows of it.
pub fn wake_for_delivery(shared: &SharedHandles, queue: &QueueName, completion: &Completion) {
    if include_delivery(&completion.follow_ups) {
        shared.wakeups.of(queue).task_due_in(Duration::ZERO);
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
