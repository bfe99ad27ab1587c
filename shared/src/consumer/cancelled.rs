//! A worker hears at once of the tasks that were cancelled while it held them. It would find that out by itself, at its next heartbeat.

use std::time::Duration;

use super::Consumer;
use crate::db::{Db, LISTEN_TIMEOUT, Link};
use crate::protocol::id::Token;
use crate::{Error, WorkerId};

/// How long a message waits for its worker.
const MESSAGE_TTL: Duration = Duration::from_secs(10);
/// The most messages that are read at a time.
const MAX_TOKENS: usize = 100;

/// Hears of the tasks that were cancelled while one worker held them, in any of its queues.
#[derive(Debug)]
pub struct CancellationListener {
    link: Link,
    list: String,
}

impl CancellationListener {
    /// The listener of a worker.
    pub fn new(db: &Db, worker: &WorkerId) -> Self {
        Self { link: db.listening_link(), list: db.keys().cancelled(worker) }
    }

    /// Waits, for at most [`LISTEN_TIMEOUT`], for tasks that were cancelled. If this future is dropped, the server goes on waiting until
    /// [`close`](Self::close).
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn next(&self) -> Result<Vec<Token>, Error> {
        let mut wait = redis::cmd("BLPOP");
        wait.arg(&self.list).arg(LISTEN_TIMEOUT.as_secs_f64());
        let mut rest = redis::cmd("LPOP");
        rest.arg(&self.list).arg(MAX_TOKENS);
        let tokens = self.link.run(async |connection| {
            let first: Option<(String, String)> = wait.query_async(connection).await?;
            let Some((_, first)) = first else { return Ok(Vec::new()) };
            let mut tokens = vec![first];
            tokens.extend(rest.query_async::<Option<Vec<String>>>(connection).await?.unwrap_or_default());
            Ok(tokens)
        });
        Ok(tokens.await?.into_iter().map(Token).collect())
    }

    /// Ends [`next`](Self::next), whose future must have been dropped.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

impl Consumer {
    /// Whether this worker holds a task under a token, according to Redis.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn holds(&self, token: &Token) -> Result<bool, Error> {
        let mut exists = redis::cmd("HEXISTS");
        exists.arg(&self.active).arg(token.as_str());
        self.queue.db.run(async |connection| exists.query_async(connection).await).await
    }
}

impl Db {
    /// Tells a worker at one of its queues that a task was cancelled that it held.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command: the worker finds out by itself.
    pub(crate) async fn tell_cancelled(&self, worker: &WorkerId, token: &Token) -> Result<(), Error> {
        let list = self.keys().cancelled(&worker.without_queue());
        let mut tell = redis::pipe();
        tell.cmd("RPUSH").arg(&list).arg(token.as_str());
        tell.cmd("PEXPIRE").arg(&list).arg(crate::script::millis(MESSAGE_TTL));
        self.run(async |connection| tell.exec_async(connection).await).await
    }
}
