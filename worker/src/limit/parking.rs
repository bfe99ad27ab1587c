//! Parks calls that have to wait for a limit, or until fewer are in flight. Those of one queue that meet on the way share one command, and
//! are announced together.

use std::sync::Arc;

use redial_core::Consumer;
use redial_core::consumer::{TurnRequest, WaitList, WaitReason};
use tokio::sync::oneshot;

use super::client::{DrainReason, LimitClient};
use crate::in_flight::calls::CallsInFlight;
use crate::queue::pending::PendingRequests;
use crate::queue::redis_retry::{NotStored, RedisRetry, Resent, Stored};
use crate::queue::vital;

/// The calls of one queue that are on their way into a wait list.
#[derive(Debug)]
pub struct Parking {
    consumer: Arc<Consumer>,
    retry: Arc<RedisRetry>,
    limits: Arc<LimitClient>,
    in_flight: Arc<CallsInFlight>,
    /// By wait list.
    pending: PendingRequests<Parked>,
}

#[derive(Debug)]
struct Parked {
    request: TurnRequest,
    reply: oneshot::Sender<Result<bool, NotStored>>,
}

impl Parking {
    /// Parks the calls of one queue.
    pub fn new(
        consumer: Arc<Consumer>,
        retry: Arc<RedisRetry>,
        limits: Arc<LimitClient>,
        in_flight: Arc<CallsInFlight>,
    ) -> Self {
        Self { consumer, retry, limits, in_flight, pending: PendingRequests::default() }
    }

    /// Parks a call until it is its turn, and sees to it that somebody drains the list. `false`: the lease was lost.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses to park the call.
    pub async fn park(self: &Arc<Self>, list: WaitList, request: TurnRequest) -> Result<bool, NotStored> {
        let (reply, parked) = oneshot::channel();
        let key = format!("{} {}", list.reason.as_str(), list.name);
        if self.pending.push(&key, Parked { request, reply }) {
            vital::spawn("parking", self.clone().send(list, key));
        }
        parked.await.unwrap_or(Err(NotStored::Aborted))
    }

    async fn send(self: Arc<Self>, list: WaitList, key: String) {
        while let Some(batch) = self.pending.next_batch(&key) {
            let (requests, replies): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|parked| (parked.request, parked.reply)).unzip();
            let answers = self.store(&list, requests).await;
            if answers.iter().any(|answer| matches!(answer, Ok(true))) {
                match list.reason {
                    WaitReason::InFlight => self.in_flight.waits(&list.name, self.consumer.queue().name().as_str()),
                    WaitReason::Limit | WaitReason::Breaker | WaitReason::Memo => self.announce(&list.name).await,
                }
            }
            replies.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(answer)));
        }
    }

    /// If Redis refuses a batch, one request in it may be why.
    async fn store(&self, list: &WaitList, requests: Vec<TurnRequest>) -> Vec<Result<bool, NotStored>> {
        match self.store_all(list, &requests).await {
            Ok(stored) => stored.into_iter().map(Ok).collect(),
            Err(NotStored::Refused(_)) if requests.len() > 1 => {
                let mut answers = Vec::with_capacity(requests.len());
                for one in requests.chunks(1) {
                    answers.push(self.store_all(list, one).await.map(|stored| stored.contains(&true)));
                }
                answers
            }
            Err(why) => requests.iter().map(|_| Err(why.clone())).collect(),
        }
    }

    async fn store_all(&self, list: &WaitList, requests: &[TurnRequest]) -> Result<Vec<bool>, NotStored> {
        let look_in = self.limits.lease();
        let park = || self.consumer.park_in_turn(list, look_in, requests);
        let Stored { value, resent } = self.retry.retry_until_stored("park_in_turn", park).await?;
        // What an earlier copy has parked is not held any more.
        Ok(value.into_iter().map(|was_held| was_held || resent == Resent::Yes).collect())
    }

    /// Whoever drains the list finds what was parked before this. If it fails, the list is checked in a while.
    async fn announce(&self, limit: &str) {
        let (limits, queue) = (&self.limits, self.consumer.queue().name());
        match limits.limits().announce_waiting(limit, queue, limits.group()).await {
            Ok(lease) if lease.is_zero() => limits.signal(limit, DrainReason::Unattended),
            Ok(lease) => limits.signal(limit, DrainReason::Attended(lease)),
            Err(error) => tracing::debug!(%error, limit, "could not announce calls that wait for a limit"),
        }
    }
}
