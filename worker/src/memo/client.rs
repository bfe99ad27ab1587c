//! Asks the memos that the fleet shares, and settles them. What the tasks of this worker ask while a call to Redis is under way goes
//! together in the next one.

use std::sync::Arc;
use std::time::Duration;

use redial_core::memo::{
    Delivery, LeadDecision, LeadOutcome, LeadRequest, LeadTerms, MemoKey, Memos, SettleRequest, StoredAnswer,
};
use redial_core::{Consumer, Error};

use crate::queue::joined_requests::{JoinedRequest, JoinedRequests};
use crate::queue::redis_retry::{NotStored, RedisRetry};

/// How many bytes of answers go in one call, beyond the first: Redis closes a connection whose command is too large. In a Cluster, where each
/// memo has a hash slot of its own and the node of any may hang, each goes alone.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// A worker's connection to the fleet's memos.
#[derive(Debug)]
pub struct MemoClient {
    memos: Memos,
    leads: Arc<JoinedRequests<LeadRequest>>,
    settlements: Arc<JoinedRequests<SettleRequest>>,
}

impl JoinedRequest for LeadRequest {
    type Target = Memos;
    type Reply = LeadDecision;
    const MAX_BYTES: usize = MAX_BATCH_BYTES;

    fn bytes(&self) -> usize {
        0
    }

    fn go_alone(memos: &Memos) -> bool {
        memos.are_spread()
    }

    async fn send(memos: &Memos, requests: &[Self]) -> Result<Vec<Result<LeadDecision, Error>>, Error> {
        memos.lead_all(requests).await
    }
}

impl JoinedRequest for SettleRequest {
    type Target = Memos;
    type Reply = LeadOutcome;
    const MAX_BYTES: usize = MAX_BATCH_BYTES;

    fn bytes(&self) -> usize {
        self.answer.len()
    }

    fn go_alone(memos: &Memos) -> bool {
        memos.are_spread()
    }

    async fn send(memos: &Memos, requests: &[Self]) -> Result<Vec<Result<LeadOutcome, Error>>, Error> {
        memos.settle_all(requests).await
    }
}

impl MemoClient {
    /// A client of these memos.
    pub fn new(memos: Memos) -> Self {
        Self {
            leads: Arc::new(JoinedRequests::new(memos.clone())),
            settlements: Arc::new(JoinedRequests::new(memos.clone())),
            memos,
        }
    }

    /// The fleet's memos, for commands that are sent once.
    pub fn memos(&self) -> &Memos {
        &self.memos
    }

    /// Asks what a task should do, and lets it lead on these terms if no other task does.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the request.
    pub async fn lead(
        &self,
        retry: &RedisRetry,
        key: &MemoKey,
        delivery: Delivery<'_>,
        terms: LeadTerms,
    ) -> Result<LeadDecision, NotStored> {
        self.leads.ask("lead", retry, &self.memos.lead_request(key, delivery, terms)).await
    }

    /// The same for a task that may lead already, or that was just parked as a follower: it does not begin to lead.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the request.
    pub async fn recheck(
        &self,
        retry: &RedisRetry,
        key: &MemoKey,
        delivery: Delivery<'_>,
        max_age: Option<Duration>,
    ) -> Result<LeadDecision, NotStored> {
        self.leads.ask("recheck", retry, &self.memos.recheck_request(key, delivery, max_age)).await
    }

    /// Ends the lead of a task that `consumer` holds, with an answer to be stored for a while or without one.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the request.
    pub async fn settle(
        &self,
        retry: &RedisRetry,
        consumer: &Consumer,
        key: &MemoKey,
        delivery: Delivery<'_>,
        answer: Option<(&StoredAnswer, Duration)>,
    ) -> Result<LeadOutcome, NotStored> {
        let request = self.memos.settle_request(&key.hash, delivery, answer);
        match self.settlements.ask("settle", retry, &request).await? {
            LeadOutcome::Lost => {
                let settle = || self.memos.settle_lost(consumer, key, delivery, answer);
                Box::pin(retry.retry("settle", settle)).await
            }
            settled => Ok(settled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::{never, size_of_returned};

    #[test]
    fn a_task_that_asks_a_memo_is_small() {
        // Each task with a memo holds one while it waits. One rare path that is not boxed makes it ten times as large.
        let client = never::<&'static MemoClient>;
        assert!(size_of_returned(|| client().lead(never(), never(), never(), never())) <= 1 << 10);
        assert!(size_of_returned(|| client().settle(never(), never(), never(), never(), never())) <= 1 << 10);
    }
}
