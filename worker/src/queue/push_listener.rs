//! While a queue is idle, blocks on its list, so that a push from any language wakes this worker at once.

use std::pin::Pin;

use super::queue_worker::QueueWorker;

/// Waits for a push to one queue.
pub struct PushListener {
    worker: QueueWorker,
    /// The blocking command, while it runs. It is never dropped before its connection: the server would go on waiting for a worker that
    /// does not listen.
    wait: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl PushListener {
    /// A listener that does not listen yet.
    pub fn new(worker: QueueWorker) -> Self {
        Self { worker, wait: None }
    }

    /// Listens from now on, until a push or until Redis ends the wait.
    pub fn listen(&mut self) {
        if self.wait.is_none() {
            let queue = self.worker.queue.clone();
            let wait = async move { queue.retry.retry("wait_for_push", || queue.consumer.wait_for_push()).await };
            self.wait = Some(Box::pin(async move { wait.await == Some(true) }));
        }
    }

    /// Waits until Redis has handed a task over, or has ended the wait: then `false`. Without [`listen`](Self::listen) it never returns.
    pub async fn pushed(&mut self) -> bool {
        let Some(wait) = &mut self.wait else { return std::future::pending().await };
        let pushed = wait.await;
        self.wait = None;
        pushed
    }

    /// Lets a push that woke this worker wake another one. If that fails, workers find the task at their next look.
    pub async fn forward_wakeup(&mut self) {
        if let Err(error) = self.worker.queue.consumer.forward_wakeup().await {
            self.worker.queue.retry.failed("forward_wakeup", &error);
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
