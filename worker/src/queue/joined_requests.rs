//! What the tasks of a worker ask Redis at the same time: what is asked while a call is under way goes together in the next one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redial_core::{Error, ErrorRecovery};
use tokio::sync::oneshot;

use super::pending::PendingRequests;
use super::redis_retry::{NotStored, RedisRetry};
use super::vital;

/// How long a call holds up the requests that come after it. Then they go without waiting for it, since Redis may be far away or hang.
const MAX_HOLD: Duration = Duration::from_millis(5);
/// The one key under which requests wait: all of them go together.
const ALL: &str = "";

/// What can go in one call with others of its kind.
pub trait JoinedRequest: Clone + fmt::Debug + Send + Sync + 'static {
    /// What is asked.
    type Target: Clone + fmt::Debug + Send + Sync + 'static;
    /// What it replies.
    type Reply: fmt::Debug + Send + 'static;

    /// How many bytes go in one call, beyond the first request.
    const MAX_BYTES: usize;

    /// How large it can be, if it can be large.
    fn bytes(&self) -> usize;

    /// Whether each has to go alone.
    fn go_alone(target: &Self::Target) -> bool;

    /// Sends requests together. Each reply may be an error of its own.
    fn send(
        target: &Self::Target,
        requests: &[Self],
    ) -> impl Future<Output = Result<Vec<Result<Self::Reply, Error>>, Error>> + Send;
}

/// Collects requests of one kind while a call with others is under way.
#[derive(Debug)]
pub struct JoinedRequests<R: JoinedRequest> {
    target: R::Target,
    /// All under [`ALL`].
    pending: PendingRequests<Waiting<R>>,
}

#[derive(Debug)]
struct Waiting<R: JoinedRequest> {
    request: R,
    /// Dropped without a reply if Redis refuses a call with several requests, any of which may be why: then each is sent on its own.
    reply: oneshot::Sender<Result<R::Reply, Error>>,
}

impl<R: JoinedRequest> JoinedRequests<R> {
    /// None yet, to this target.
    pub fn new(target: R::Target) -> Self {
        Self { target, pending: PendingRequests::default() }
    }

    /// Sends a request until Redis has executed it: first with others, then on its own, so that each fails for its own reasons only.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the request.
    pub async fn ask(
        self: &Arc<Self>,
        command: &'static str,
        retry: &RedisRetry,
        request: &R,
    ) -> Result<R::Reply, NotStored> {
        let mut is_first = !R::go_alone(&self.target);
        let attempt = || {
            let with_others = std::mem::take(&mut is_first);
            async move {
                if with_others && let Some(reply) = self.ask_with_others(request.clone()).await {
                    return reply;
                }
                // Few go alone. What a command needs, 10 KB, would be part of every future that asks.
                let mut replies = Box::pin(R::send(&self.target, std::slice::from_ref(request))).await?;
                replies.pop().unwrap_or_else(|| Err(Error::Data("no reply to a request".into())))
            }
        };
        retry.retry(command, attempt).await
    }

    /// `None`: it has to go on its own.
    async fn ask_with_others(self: &Arc<Self>, request: R) -> Option<Result<R::Reply, Error>> {
        let (reply, replied) = oneshot::channel();
        if self.pending.push(ALL, Waiting { request, reply }) {
            vital::spawn("joined requests", self.clone().send_all());
        }
        replied.await.ok()
    }

    /// Sends the requests that wait, and those that come meanwhile.
    async fn send_all(self: Arc<Self>) {
        // Tasks that are about to ask as well come along.
        tokio::task::yield_now().await;
        while let Some(batch) = self.pending.next_batch_within(ALL, R::MAX_BYTES, |one| one.request.bytes()) {
            let mut call = Box::pin(self.clone().call(batch));
            if tokio::time::timeout(MAX_HOLD, &mut call).await.is_err() {
                vital::spawn("joined requests", call);
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
        match R::send(&self.target, &requests).await {
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
