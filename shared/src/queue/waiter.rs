//! Waiting for results without polling: subscribe once, then block on a list of one's own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::db::{BLOCK_TIMEOUT, Link};
use crate::script::task::Subscribe;
use crate::script::{MoreKeys, millis};
use crate::{Error, Queue, TaskId};

/// The maximum number of ids in one request: a larger one would hold up every other client of the node.
const MAX_IDS: usize = 100;
/// How long a subscription lasts. A waiter that still waits renews it earlier, see [`Waiter::RENEW_AFTER`].
const SUBSCRIPTION: Duration = Duration::from_secs(90);
/// How much longer the record of subscriptions is kept than they last.
const RECORD_TTL: Duration = Duration::from_secs(60);

/// Waits for results of a queue, any number at a time, over one blocking connection.
#[derive(Debug)]
pub struct Waiter {
    queue: Queue,
    list: String,
    link: Link,
    /// Whether there may be results on the list already.
    may_have_more: AtomicBool,
}

impl Waiter {
    /// Subscriptions must be renewed after this long at the latest, and after each error of [`Waiter::next`].
    pub const RENEW_AFTER: Duration = Duration::from_secs(30);

    /// A waiter for results of `queue`.
    pub fn new(queue: Queue) -> Self {
        let list = queue.keys.answers(TaskId::random().as_str());
        Self { list, link: queue.db.blocking_link(), queue, may_have_more: AtomicBool::new(false) }
    }

    /// Subscribes to the results of these tasks. Results that exist already are returned, and not delivered again.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Some subscriptions may exist: subscribe again, or [`Waiter::unsubscribe`].
    pub async fn subscribe(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, String)>, Error> {
        self.request(ids, SUBSCRIPTION).await
    }

    /// Unsubscribes from the results of these tasks.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The subscriptions end by themselves.
    pub async fn unsubscribe(&self, ids: &[TaskId]) -> Result<(), Error> {
        self.request(ids, Duration::ZERO).await.map(|_| ())
    }

    async fn request(&self, ids: &[TaskId], span: Duration) -> Result<Vec<(TaskId, String)>, Error> {
        let mut existing = Vec::new();
        for ids in ids.chunks(MAX_IDS) {
            let result_keys: Vec<String> = ids.iter().map(|id| self.queue.keys.result(id)).collect();
            let call = Subscribe {
                waiters: &self.queue.keys.waiters,
                waiter_list: &self.list,
                subscribe_ms: millis(span),
                grace_ms: millis(RECORD_TTL),
                result_keys: MoreKeys(&result_keys),
            };
            let results = self.queue.db.call(&call).await?;
            existing.extend(ids.iter().cloned().zip(results).filter_map(|(id, result)| Some((id, result?))));
        }
        Ok(existing)
    }

    /// Waits, for at most [`BLOCK_TIMEOUT`], for a result. The first one is returned at once; those that arrived with it are returned by
    /// the next call. Call it from one task at a time, and do not drop the future before it completes: the command would go on
    /// blocking at the server and consume a result.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Results may have been lost on the way: subscribe again to all that are
    /// outstanding.
    pub async fn next(&self) -> Result<Vec<(TaskId, String)>, Error> {
        let mut messages = Vec::new();
        if self.may_have_more.swap(false, Ordering::Relaxed) {
            let mut rest = redis::cmd("RPOP");
            rest.arg(&self.list).arg(MAX_IDS);
            let arrived = self.link.run(async |connection| rest.query_async::<Option<Vec<String>>>(connection).await);
            messages = arrived.await?.unwrap_or_default();
        }
        if messages.is_empty() {
            let mut wait = redis::cmd("BRPOP");
            wait.arg(&self.list).arg(BLOCK_TIMEOUT.as_secs_f64());
            let first =
                self.link.run(async |connection| wait.query_async::<Option<(String, String)>>(connection).await);
            messages.extend(first.await?.map(|(_, message)| message));
        }
        self.may_have_more.store(!messages.is_empty(), Ordering::Relaxed);
        let parse = |message: String| {
            let (key, result) = message.split_once('\n')?;
            Some((self.queue.keys.id_of_result(key)?, result.to_owned()))
        };
        Ok(messages.into_iter().filter_map(parse).collect())
    }
}
