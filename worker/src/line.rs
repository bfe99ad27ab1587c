//! Looks after the tasks that wait for an upstream to come back: lets run whom its breaker lets admit.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redial_core::breaker::{BreakerRequest, BreakerState};
use redial_core::consumer::{ParkedTasks, Selection, WaitList};

use crate::breaker;
use crate::lock::locked;
use crate::worker::{Lane, Worker};

/// How often a worker looks whether an upstream is back, be there one task in line or a million.
const LOOK: Duration = Duration::from_secs(1);

/// The lines that this worker looks after, by queue and upstream.
#[derive(Debug, Default)]
pub struct Tended(Mutex<HashSet<(String, String)>>);

impl Tended {
    fn add(&self, what: &(String, String)) -> bool {
        locked(&self.0).insert(what.clone())
    }

    fn remove(&self, what: &(String, String)) {
        locked(&self.0).remove(what);
    }
}

/// Looks after the line of a queue's tasks for an upstream from now on, until it is empty. Should this worker die, the line is
/// still watched, and another one finds it.
pub fn tend(worker: &Arc<Worker>, lane: &Arc<Lane>, upstream: &str) {
    let what = (lane.name.clone(), upstream.to_owned());
    if worker.tended.add(&what) {
        let (worker, lane) = (worker.clone(), lane.clone());
        tokio::spawn(async move {
            let followers = ParkedTasks::new(lane.consumer.queue().clone(), &WaitList::breaker(&what.1));
            loop {
                let ended = until_empty(&worker, &lane, &what.1, &followers).await;
                worker.tended.remove(&what);
                // Someone may have come in after the last look, and found it looked after.
                if ended.is_none() || matches!(followers.count().await, Ok(0) | Err(_)) || !worker.tended.add(&what) {
                    return;
                }
            }
        });
    }
}

/// `None` when the worker stops before.
async fn until_empty(worker: &Arc<Worker>, lane: &Arc<Lane>, upstream: &str, followers: &ParkedTasks) -> Option<()> {
    loop {
        let waiting = followers.count().await.ok();
        let (standing, leave) =
            breaker::ask_redis(worker, lane, upstream, BreakerRequest::WaitList(waiting.unwrap_or(1))).await?;
        let mut left = leave.admit;
        while left != Selection::NONE {
            left = match (followers.unpark_some(left).await, left) {
                (Ok(gone @ 1..), Selection::Next(most)) => Selection::Next(most.saturating_sub(gone)),
                _ => Selection::NONE,
            }
        }
        if leave.admit != Selection::NONE || standing.state == BreakerState::HalfOpen {
            worker.scheduled_in(Duration::ZERO);
        }
        if waiting == Some(0) && standing.state != BreakerState::HalfOpen {
            return Some(());
        }
        let wait = leave.retry_in.clamp(Duration::from_millis(10), LOOK);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = worker.stop.cancelled() => return None,
        }
    }
}
