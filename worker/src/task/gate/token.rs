//! A call that needs an access token waits until there is one. A token endpoint that fails counts for the upstream's breaker, as the upstream
//! cannot be called: once that opens, tasks are parked.

use std::time::Duration;

use redial_core::UnixMs;

use crate::breaker::client::BreakerPermit;
use crate::http::credentials::tokens::AccessToken;
use crate::queue::queue_worker::QueueWorker;
use crate::task::job::Job;
use crate::task::types::Refusal;

/// The token for a task's call; `None`: it needs none.
///
/// # Errors
/// There is no token now.
pub async fn check(
    worker: &QueueWorker,
    job: &Job,
    permit: Option<&BreakerPermit>,
) -> Result<Option<AccessToken>, Refusal> {
    let shared = &worker.shared;
    let upstreams = shared.config.upstreams.current();
    let Some(client) = upstreams.oauth_for(&job.task) else { return Ok(None) };
    match shared.http.access_token(client).await {
        Ok(token) => Ok(Some(token)),
        Err(none) => {
            shared.metrics.held_back(worker.name(), "token");
            if let Some(permit) = permit.filter(|_| none.is_failing) {
                shared.breakers.record(permit, false, Duration::ZERO);
            }
            let wait = none.retry_in.mul_f64(rand::random_range(1.0..1.5));
            Err(Refusal::Defer { wait, not_before: UnixMs(0) })
        }
    }
}
