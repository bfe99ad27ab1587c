//! Asks the memos that the fleet shares, and settles them. What the tasks of this worker ask while a call to Redis is under way goes
//! together in the next one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redial_core::memo::{
    Delivery, LeadDecision, LeadOutcome, LeadRequest, LeadTerms, MemoKey, Memos, SettleRequest, StoredAnswer,
};
use redial_core::{Consumer, Error, ErrorRecovery};
use tokio::sync::oneshot;

use crate::queue::pending::PendingRequests;
use crate::queue::redis_retry::{NotStored, RedisRetry};
use crate::queue::vital;

/// How many bytes of answers go in one call, beyond the first: Redis closes a connection whose command is too large.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How long a call holds up the requests that come after it. Then they go without waiting for it, since Redis may be far away or hang.
const MAX_HOLD: Duration = Duration::from_millis(5);
/// The one key under which requests wait: those about all memos go together.
const ALL: &str = "";

/// A worker's connection to the fleet's memos.
#[derive(Debug)]
pub struct MemoClient {
    memos: Memos,
    leads: Arc<Collector<LeadRequest>>,
    settlements: Arc<Collector<SettleRequest>>,
}

/// What can go in one call with others of its kind.
trait Batched: Clone + fmt::Debug + Send + Sync + 'static {
    type Reply: fmt::Debug + Send + 'static;

    /// How large it can be, if it can be large.
    fn bytes(&self) -> usize;

    fn send(
        memos: &Memos,
        requests: &[Self],
    ) -> impl Future<Output = Result<Vec<Result<Self::Reply, Error>>, Error>> + Send;
}

impl Batched for LeadRequest {
    type Reply = LeadDecision;

    fn bytes(&self) -> usize {
        0
    }

    async fn send(memos: &Memos, requests: &[Self]) -> Result<Vec<Result<LeadDecision, Error>>, Error> {
        memos.lead_all(requests).await
    }
}

impl Batched for SettleRequest {
    type Reply = LeadOutcome;

    fn bytes(&self) -> usize {
        self.answer.len()
    }

    async fn send(memos: &Memos, requests: &[Self]) -> Result<Vec<Result<LeadOutcome, Error>>, Error> {
        memos.settle_all(requests).await
    }
}

impl MemoClient {
    /// A client of these memos.
    pub fn new(memos: Memos) -> Self {
        Self {
            leads: Arc::new(Collector::new(memos.clone())),
            settlements: Arc::new(Collector::new(memos.clone())),
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
                retry.retry("settle", settle).await
            }
            settled => Ok(settled),
        }
    }
}

/// Collects requests of one kind while a call with others is under way. On a Cluster, where each memo has a hash slot of its own and the
/// node of any may hang, each goes alone.
#[derive(Debug)]
struct Collector<R: Batched> {
    memos: Memos,
    /// All under [`ALL`].
    pending: PendingRequests<Waiting<R>>,
}

#[derive(Debug)]
struct Waiting<R: Batched> {
    request: R,
    /// Dropped without a reply if Redis refuses a call with several requests, any of which may be why: then each is sent on its own.
    reply: oneshot::Sender<Result<R::Reply, Error>>,
}

impl<R: Batched> Collector<R> {
    fn new(memos: Memos) -> Self {
        Self { memos, pending: PendingRequests::default() }
    }

    /// Sends a request until Redis has executed it: first with others, then on its own, so that each fails for its own reasons only.
    async fn ask(
        self: &Arc<Self>,
        command: &'static str,
        retry: &RedisRetry,
        request: &R,
    ) -> Result<R::Reply, NotStored> {
        let mut is_first = !self.memos.are_spread();
        let attempt = || {
            let with_others = std::mem::take(&mut is_first);
            async move {
                if with_others && let Some(reply) = self.ask_with_others(request.clone()).await {
                    return reply;
                }
                let mut replies = R::send(&self.memos, std::slice::from_ref(request)).await?;
                replies.pop().unwrap_or_else(|| Err(Error::Data("no reply to a request about a memo".into())))
            }
        };
        retry.retry(command, attempt).await
    }

    /// `None`: it has to go on its own.
    async fn ask_with_others(self: &Arc<Self>, request: R) -> Option<Result<R::Reply, Error>> {
        let (reply, replied) = oneshot::channel();
        if self.pending.push(ALL, Waiting { request, reply }) {
            vital::spawn("memos", self.clone().send_all());
        }
        replied.await.ok()
    }

    /// Sends the requests that wait, and those that come meanwhile.
    async fn send_all(self: Arc<Self>) {
        // Tasks that are about to ask as well come along.
        tokio::task::yield_now().await;
        while let Some(batch) = self.pending.next_batch_within(ALL, MAX_BATCH_BYTES, |one| one.request.bytes()) {
            let mut call = Box::pin(self.clone().call(batch));
            if tokio::time::timeout(MAX_HOLD, &mut call).await.is_err() {
                vital::spawn("memos", call);
            }
        }
    }

    async fn call(self: Arc<Self>, mut batch: Vec<Waiting<R>>) {
        // A task that has given up in the meantime asks nothing.
        batch.retain(|waiting| !waiting.reply.is_closed());
        let (requests, senders): (Vec<R>, Vec<_>) = batch.into_iter().map(|one| (one.request, one.reply)).unzip();
        if requests.is_empty() {
            return;
        }
        match R::send(&self.memos, &requests).await {
            Ok(replies) => {
                for (sender, reply) in senders.into_iter().zip(replies) {
                    let _ = sender.send(reply);
                }
            }
            Err(error) if requests.len() > 1 && error.recovery() == ErrorRecovery::Never => {}
            Err(error) => {
                for sender in senders {
                    let _ = sender.send(Err(error.clone()));
                }
            }
        }
    }
}
