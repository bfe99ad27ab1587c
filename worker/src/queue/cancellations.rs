//! Aborts the calls of tasks that are cancelled, as soon as a message says so. If that is lost, the next heartbeat shows it.

use redial_core::consumer::CancellationListener;
use redial_core::protocol::id::Token;
use redial_core::{Db, WorkerId};

use super::queue_worker::QueueWorker;
use super::redis_retry::RetryWaits;
use super::served_queues::ServedQueues;

/// Listens until the worker aborts its calls.
pub async fn run(db: Db, id: WorkerId, served: ServedQueues) {
    let Some(shared) = served.first().map(|worker| worker.shared.clone()) else { return };
    let listener = CancellationListener::new(&db, &id);
    let mut waits = RetryWaits::default();
    loop {
        let told = tokio::select! {
            told = listener.next() => told,
            () = shared.abort.cancelled() => return listener.close().await,
        };
        match told {
            Ok(tokens) => {
                waits = RetryWaits::default();
                for token in tokens {
                    abort_call(&served.all(), token).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot listen for cancellations; heartbeats show them");
                tokio::time::sleep(waits.next_wait()).await;
            }
        }
    }
}

/// Aborts the call of a task, if it is true that this worker does not hold the task any more.
async fn abort_call(workers: &[QueueWorker], token: Token) {
    let queue = workers.iter().map(|worker| &worker.queue).find(|queue| queue.held.contains(&token));
    if let Some(queue) = queue
        && matches!(queue.consumer.holds(&token).await, Ok(false))
    {
        queue.held.mark_lost([token]);
    }
}
