//! While a queue is idle, blocks on its list, so that a push from any language wakes this worker at once.

use std::pin::Pin;
use std::time::Duration;

use redial_core::db::LISTEN_TIMEOUT;

use super::queue_worker::QueueWorker;
use super::redis_retry::RetryWaits;

/// Of many queues, not all ask again in the same moment: each waits for a random time up to this much below the longest.
const SPREAD: Duration = Duration::from_secs(20);

/// How a wait for a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenOutcome {
    /// Redis has handed a task over.
    Pushed,
    /// Nothing was pushed for as long as one waits.
    Nothing,
    /// The connection broke. Whether Redis answers, a claim has to show.
    Failed,
}

/// Waits for a push to one queue.
pub struct PushListener {
    worker: QueueWorker,
    /// The blocking command, while it runs. It is never dropped before its connection: the server would go on waiting for a worker that
    /// does not listen.
    wait: Option<Pin<Box<dyn Future<Output = ListenOutcome> + Send>>>,
    /// How long it waits after a failure.
    waits: RetryWaits,
}

impl PushListener {
    /// A listener that does not listen yet.
    pub fn new(worker: QueueWorker) -> Self {
        Self { worker, wait: None, waits: RetryWaits::default() }
    }

    /// Listens from now on, until a push or until Redis ends the wait.
    pub fn listen(&mut self) {
        if self.wait.is_none() {
            let queue = self.worker.queue.clone();
            let backoff = self.waits.next_wait();
            let timeout = LISTEN_TIMEOUT.saturating_sub(SPREAD.mul_f64(rand::random()));
            self.wait = Some(Box::pin(async move {
                match queue.consumer.wait_for_push(timeout).await {
                    Ok(true) => ListenOutcome::Pushed,
                    Ok(false) => ListenOutcome::Nothing,
                    Err(error) => {
                        queue.retry.failed("wait_for_push", &error);
                        tokio::time::sleep(backoff).await;
                        ListenOutcome::Failed
                    }
                }
            }));
        }
    }

    /// Waits for the end of the wait. Without [`listen`](Self::listen) it never returns.
    pub async fn ended(&mut self) -> ListenOutcome {
        let Some(wait) = &mut self.wait else { return std::future::pending().await };
        let outcome = wait.await;
        self.wait = None;
        if outcome != ListenOutcome::Failed {
            self.waits = RetryWaits::default();
        }
        outcome
    }

    /// Lets a push that woke this worker wake another one. If that fails, workers find the task at their next look.
    pub async fn forward_wakeup(&mut self) {
        if let Err(error) = self.worker.queue.consumer.forward_wakeup().await {
            self.worker.queue.retry.failed("forward_wakeup", &error);
            self.worker.queue.activity.note();
        }
    }

    /// Stops listening. What Redis hands over at the last moment wakes another worker.
    pub async fn end(&mut self) {
        if self.wait.take().is_some() {
            self.worker.queue.consumer.stop_waiting().await;
            self.forward_wakeup().await;
        }
    }
}

impl std::fmt::Debug for PushListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushListener").field("listens", &self.wait.is_some()).finish_non_exhaustive()
    }
}
