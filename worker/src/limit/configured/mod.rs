//! States the `[[limit]]` blocks of this worker to the fleet, again and again. One that no running worker states any more ends after a
//! minute; and of two configurations, as during a deployment, that of the worker that was configured last counts.

pub mod since;

use std::sync::Arc;
use std::time::Duration;

use redial_core::protocol::task::Limit;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::queue::queue_worker::SharedHandles;

/// How often a limit is stated: several times in the minute for which that counts.
const STATE_INTERVAL: Duration = Duration::from_secs(10);
/// How many limits are stated at the same time.
const PARALLEL: usize = 32;

/// States the limits of the configuration until the worker ends.
pub async fn state_limits(shared: Arc<SharedHandles>) {
    let mut rounds = tokio::time::interval(STATE_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let limits: Vec<Limit> = shared.config.limits.iter().cloned().collect();
        if limits.is_empty() {
            continue;
        }
        match shared.limits.limits().now().await {
            Ok(now) => shared.limits.configured().configure(limits.iter(), now),
            Err(error) => {
                tracing::debug!(%error, "could not state the configured limits; the next round tries again");
                continue;
            }
        }
        let mut statements = JoinSet::new();
        for limit in limits {
            if statements.len() == PARALLEL {
                statements.join_next().await;
            }
            statements.spawn(state(shared.clone(), limit));
        }
        while statements.join_next().await.is_some() {}
    }
}

async fn state(shared: Arc<SharedHandles>, limit: Limit) {
    let client = &shared.limits;
    let since = client.configured().since(&limit);
    if let Err(error) = client.limits().configure(&limit, since).await {
        tracing::debug!(%error, limit = limit.name, "could not state a configured limit");
        return;
    }
    // Once it is there: a name whose limit does not exist is dropped when another one is registered.
    client.register(&limit.name).await;
    if shared.metrics.limits.shows(&limit.name)
        && let Ok(status) = client.limits().inspect(&limit.name).await
    {
        shared.metrics.limits.status(&status);
    }
}
