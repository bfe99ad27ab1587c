//! Waiting for results without polling: subscribe once, then block on a list of one's own.

use std::time::Duration;

use crate::db::{BLOCK_TIMEOUT, Link};
use crate::script::task::Subscribe;
use crate::script::{MoreKeys, millis};
use crate::{Error, Queue, TaskId};

/// The most ids of one request: a larger one would hold up everyone else on the node.
const MOST: usize = 100;
/// For how long a request stands. A waiter that still waits asks again before, see [`Waiter::RENEW_AFTER`].
const SPAN: Duration = Duration::from_secs(90);
/// How much longer requests are kept than they stand.
const KEPT: Duration = Duration::from_secs(60);

/// One who waits for results of a queue, any number at a time, over one blocking connection.
#[derive(Debug)]
pub struct Waiter {
    queue: Queue,
    list: String,
    link: Link,
}

impl Waiter {
    /// After so long at the latest, and after each error of [`Waiter::next`], what is still waited for must be asked for again.
    pub const RENEW_AFTER: Duration = Duration::from_secs(30);

    /// One who waits at `queue`.
    pub fn new(queue: Queue) -> Self {
        let list = queue.keys.answers(TaskId::random().as_str());
        Self { list, link: queue.db.blocking_link(), queue }
    }

    /// Asks to be told of the results of these tasks. Those that are there already are returned, and not told again.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Some may have been asked for: subscribe again, or [`Waiter::unsubscribe`].
    pub async fn subscribe(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, String)>, Error> {
        self.request(ids, SPAN).await
    }

    /// Asks no more for these.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The requests end by themselves.
    pub async fn unsubscribe(&self, ids: &[TaskId]) -> Result<(), Error> {
        self.request(ids, Duration::ZERO).await.map(|_| ())
    }

    async fn request(&self, ids: &[TaskId], span: Duration) -> Result<Vec<(TaskId, String)>, Error> {
        let mut there = Vec::new();
        for ids in ids.chunks(MOST) {
            let result_keys: Vec<String> = ids.iter().map(|id| self.queue.keys.result(id)).collect();
            let call = Subscribe {
                waiters: &self.queue.keys.waiters,
                waiter_list: &self.list,
                subscribe_ms: millis(span),
                grace_ms: millis(KEPT),
                result_keys: MoreKeys(&result_keys),
            };
            let results = self.queue.db.call(&call).await?;
            there.extend(ids.iter().cloned().zip(results).filter_map(|(id, result)| Some((id, result?))));
        }
        Ok(there)
    }

    /// Waits, for at most [`BLOCK_TIMEOUT`], until one of them has come, and returns all that have. Call it from one task at a time,
    /// and do not drop it half-way: the wait would go on at the server and take an answer along.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Answers may have been lost on the way: subscribe again for all that is waited for.
    pub async fn next(&self) -> Result<Vec<(TaskId, String)>, Error> {
        let mut wait = redis::cmd("BRPOP");
        wait.arg(&self.list).arg(BLOCK_TIMEOUT.as_secs_f64());
        let mut rest = redis::cmd("RPOP");
        rest.arg(&self.list).arg(MOST);
        let told = self.link.run(async |connection| {
            let first: Option<(String, String)> = wait.query_async(connection).await?;
            let Some((_, first)) = first else { return Ok(Vec::new()) };
            let mut told = vec![first];
            told.extend(rest.query_async::<Option<Vec<String>>>(connection).await?.unwrap_or_default());
            Ok(told)
        });
        let parse = |told: String| {
            let (key, result) = told.split_once('\n')?;
            Some((self.queue.keys.id_of_result(key)?, result.to_owned()))
        };
        Ok(told.await?.into_iter().filter_map(parse).collect())
    }
}
