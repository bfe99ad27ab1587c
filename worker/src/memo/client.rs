//! Asks the memos that the fleet shares. What the tasks of this worker ask while another question is on its way goes as one command.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redial_core::Error;
use redial_core::consumer::MAX_BATCH;
use redial_core::memo::{LeadDecision, LeadOutcome, LeadRequest, Memos, SettleRequest};
use tokio::sync::oneshot;

use crate::queue::redis_retry::{NotStored, RedisRetry};
use crate::queue::vital;

/// How many bytes of answers go in one command, beyond the first: Redis closes a connection whose command is too large.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// After this time without a reply, the next requests are sent beside the batch that is on its way: Redis is far away, or hangs on it.
const SLOW: Duration = Duration::from_millis(10);

/// A worker's connection to the fleet's memos.
#[derive(Debug)]
pub struct MemoClient {
    memos: Memos,
    retry: Arc<RedisRetry>,
    leads: PendingMemos<LeadRequest>,
    settlements: PendingMemos<SettleRequest>,
}

/// What a memo can be asked for.
pub trait MemoRequest: Send + Sync + Sized + 'static {
    /// What it replies.
    type Reply: std::fmt::Debug + Send;

    /// The name of the command, for the log.
    const COMMAND: &'static str;

    /// How large its variable part is, in bytes.
    fn bytes(&self) -> usize;

    /// Sends requests together. `None`: this one failed in the company of others.
    fn send(memos: &Memos, requests: &[Self]) -> impl Future<Output = Result<Vec<Option<Self::Reply>>, Error>> + Send;

    /// Those of its kind that wait.
    fn pending(client: &MemoClient) -> &PendingMemos<Self>;
}

impl MemoRequest for LeadRequest {
    type Reply = LeadDecision;
    const COMMAND: &'static str = "lead";

    fn bytes(&self) -> usize {
        0
    }

    async fn send(memos: &Memos, requests: &[Self]) -> Result<Vec<Option<LeadDecision>>, Error> {
        memos.lead_all(requests).await
    }

    fn pending(client: &MemoClient) -> &PendingMemos<Self> {
        &client.leads
    }
}

impl MemoRequest for SettleRequest {
    type Reply = LeadOutcome;
    const COMMAND: &'static str = "settle";

    fn bytes(&self) -> usize {
        self.answer.len()
    }

    async fn send(memos: &Memos, requests: &[Self]) -> Result<Vec<Option<LeadOutcome>>, Error> {
        memos.settle_all(requests).await
    }

    fn pending(client: &MemoClient) -> &PendingMemos<Self> {
        &client.settlements
    }
}

/// A request, and who waits for the reply.
#[derive(Debug)]
struct Asked<R: MemoRequest> {
    request: R,
    reply: oneshot::Sender<Result<R::Reply, NotStored>>,
}

/// Requests of one kind that wait to be sent.
#[derive(Debug)]
pub struct PendingMemos<R: MemoRequest>(Mutex<Pending<R>>);

#[derive(Debug)]
struct Pending<R: MemoRequest> {
    asked: Vec<Asked<R>>,
    /// Whether someone sends them.
    has_sender: bool,
}

impl<R: MemoRequest> Default for PendingMemos<R> {
    fn default() -> Self {
        Self(Mutex::new(Pending { asked: Vec::new(), has_sender: false }))
    }
}

impl<R: MemoRequest> PendingMemos<R> {
    /// Adds a request. `true`: nobody sends them yet, so the caller has to.
    fn push(&self, asked: Asked<R>) -> bool {
        let mut pending = self.0.lock();
        pending.asked.push(asked);
        !std::mem::replace(&mut pending.has_sender, true)
    }

    /// The next requests, as many as one command takes; none: then whoever pushes the next one has to send it.
    fn next_batch(&self) -> Vec<Asked<R>> {
        let mut pending = self.0.lock();
        pending.has_sender = !pending.asked.is_empty();
        let mut bytes = 0;
        let fitting = pending.asked.iter().take(MAX_BATCH).take_while(|asked| {
            bytes += asked.request.bytes();
            bytes <= MAX_BATCH_BYTES
        });
        let size = fitting.count().max(1).min(pending.asked.len());
        pending.asked.drain(..size).collect()
    }
}

impl MemoClient {
    /// A client that asks these memos.
    pub fn new(memos: Memos, retry: Arc<RedisRetry>) -> Self {
        Self { memos, retry, leads: PendingMemos::default(), settlements: PendingMemos::default() }
    }

    /// The memos, for what is asked once, and to make requests.
    pub fn memos(&self) -> &Memos {
        &self.memos
    }

    /// Asks a memo, together with what others ask at the same time.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the request.
    pub async fn ask<R: MemoRequest>(self: &Arc<Self>, request: R) -> Result<R::Reply, NotStored> {
        if !self.memos.take_many() {
            return self.ask_alone(request).await;
        }
        let (reply, replied) = oneshot::channel();
        if R::pending(self).push(Asked { request, reply }) {
            vital::spawn("memos", self.clone().send_all::<R>());
        }
        replied.await.unwrap_or(Err(NotStored::Aborted))
    }

    async fn ask_alone<R: MemoRequest>(&self, request: R) -> Result<R::Reply, NotStored> {
        let request = std::slice::from_ref(&request);
        let send = || async {
            let reply = R::send(&self.memos, request).await?.pop().flatten();
            reply.ok_or_else(|| Error::Data("no reply of a memo".into()))
        };
        self.retry.retry(R::COMMAND, send).await
    }

    /// Sends the requests that wait, and those that arrive meanwhile.
    async fn send_all<R: MemoRequest>(self: Arc<Self>) {
        loop {
            let batch = R::pending(&self).next_batch();
            if batch.is_empty() {
                return;
            }
            let mut sent = Box::pin(self.send::<R>(batch));
            if tokio::time::timeout(SLOW, &mut sent).await.is_err() {
                vital::spawn("memos", self.clone().send_all_later::<R>());
                return sent.await;
            }
        }
    }

    /// The same, as a type of its own: a future cannot contain itself.
    fn send_all_later<R: MemoRequest>(self: Arc<Self>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.send_all::<R>())
    }

    async fn send<R: MemoRequest>(self: &Arc<Self>, batch: Vec<Asked<R>>) {
        let (requests, waiting): (Vec<R>, Vec<_>) =
            batch.into_iter().map(|Asked { request, reply }| (request, reply)).unzip();
        let replies = self.retry.retry(R::COMMAND, || R::send(&self.memos, &requests)).await;
        let is_alone = requests.len() == 1;
        let replies = match replies {
            Ok(replies) => replies.into_iter().map(|reply| reply.map(Ok)).collect(),
            // One of them may be why.
            Err(NotStored::Refused(_)) if !is_alone => requests.iter().map(|_| None).collect(),
            Err(error) => requests.iter().map(|_| Some(Err(error.clone()))).collect::<Vec<_>>(),
        };
        for ((request, waiting), reply) in requests.into_iter().zip(waiting).zip(replies) {
            if let Some(reply) = reply {
                // Whoever waited for it may have lost the task meanwhile.
                let _ = waiting.send(reply);
            } else {
                let client = self.clone();
                vital::spawn("memos", async move { waiting.send(client.ask_alone(request).await) });
            }
        }
    }
}
