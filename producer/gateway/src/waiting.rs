//! Waiting for results. Those who wait hold a place, of which there is a bounded number, and nothing else: the results of all tasks of
//! a queue arrive over one connection. While Redis is away they keep waiting, and results that were stored meanwhile are looked up.

use std::time::Duration;

use redial::{Client, Completed, Results};
use redial_core::TaskId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use crate::gateway::Gateway;
use crate::problem::Problem;

/// How long a request tries to reach Redis before it says that it cannot.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many tasks in each state are searched for one that is to be cancelled: as many as `redial cancel` searches.
pub(crate) const CANCEL_SEARCH: usize = 1_000_000;

/// When a wait ends that begins now.
pub(crate) fn deadline(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

/// The place of a request that waits. It is free again when this is dropped, also because the caller has gone away.
#[derive(Debug)]
pub(crate) struct WaitingPlace {
    _permit: OwnedSemaphorePermit,
}

impl Gateway {
    /// A place to wait.
    ///
    /// # Errors
    /// Too many requests wait already, or the gateway is about to end.
    pub fn place(&self) -> Result<WaitingPlace, Problem> {
        if self.is_draining() {
            return Err(Problem::draining());
        }
        let full = |_| Problem::too_many("requests wait for results", self.config.max_waiting);
        let permit = self.waiting.clone().try_acquire_owned().map_err(full)?;
        Ok(WaitingPlace { _permit: permit })
    }

    /// The next result; `None` at the deadline, or when all have arrived.
    ///
    /// # Errors
    /// The gateway is about to end.
    pub async fn next_result(&self, results: &mut Results, deadline: Instant) -> Result<Option<Completed>, Problem> {
        tokio::select! {
            arrived = timeout_at(deadline, results.next()) => Ok(arrived.unwrap_or(None)),
            () = self.wait_for_drain() => Err(Problem::draining()),
        }
    }

    /// Does something with Redis that may be repeated, and repeats it for a while as long as Redis is away.
    ///
    /// # Errors
    /// Redis refuses it or stays away, or the gateway is about to end.
    pub async fn patiently<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, redial::Error>>,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            // In a box, which is gone while a request waits: thousands do.
            let error = match Box::pin(attempt()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let may_pass = match &error {
                redial::Error::Unreachable(core) | redial::Error::Redis(core) => core.is_temporary(),
                _ => false,
            };
            if !may_pass || Instant::now() >= until || self.is_draining() {
                return Err(Problem::redis(&error));
            }
            sleep(Duration::from_millis(rand::random_range(50..=250))).await;
        }
    }
}

/// Cancels a task when it is dropped, as it is when the caller goes away, unless it is disarmed.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(Option<(std::sync::Arc<Gateway>, Client, TaskId)>);

impl CancelOnDrop {
    pub fn new(gateway: std::sync::Arc<Gateway>, client: Client, id: TaskId) -> Self {
        Self(Some((gateway, client, id)))
    }

    /// The task goes on, or has ended.
    pub fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some((gateway, client, id)) = self.0.take() else { return };
        tokio::spawn(async move {
            let Ok(_permit) = gateway.searches.acquire().await else { return };
            let cancelled = gateway.patiently(|| client.cancel(&id, CANCEL_SEARCH)).await;
            if cancelled.is_err() {
                tracing::warn!(task = %id, "the caller of a task went away, and it could not be cancelled");
            }
        });
    }
}
