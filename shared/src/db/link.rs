//! One connection to Redis, kept for as long as it works and replaced when it fails. Taking one from the pool for each command would
//! cost a round trip each time.

use std::sync::Arc;

use deadpool::managed::{Object, Pool, PoolError};
use redis::RedisResult;
use tokio::sync::Mutex;

use super::manager::{Connection, Manager};
use super::probe::ping_twice;
use super::target::Target;
use crate::Error;

/// One connection, kept for as long as it works.
#[derive(Debug)]
pub struct Link {
    pool: Pool<Manager>,
    target: Arc<Target>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Incremented with each connection, so that a failure of an old one does not throw away the new one.
    number: u64,
    connection: Option<Object<Manager>>,
}

impl Link {
    pub(super) fn new(pool: Pool<Manager>, target: Arc<Target>) -> Self {
        Self { pool, target, held: Mutex::default() }
    }

    /// Another connection to the same Redis, which this one does not share.
    pub(super) fn another(&self) -> Self {
        Self::new(self.pool.clone(), self.target.clone())
    }

    /// Runs commands over this connection, which is established first if necessary. It tries once: the caller decides whether and
    /// when to repeat.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command. A connection that failed is thrown away.
    pub async fn run<T>(&self, commands: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>) -> Result<T, Error> {
        let (number, mut connection) = self.connection().await?;
        let answer = commands(&mut connection).await.map_err(Error::from);
        // A Cluster's replaces those of its nodes by itself: one that fails must not take the others with it.
        let is_cluster = matches!(connection, Connection::Cluster(_));
        if !is_cluster && answer.as_ref().is_err_and(Error::spoils_connection) {
            self.throw_away(number).await;
        }
        answer
    }

    async fn connection(&self) -> Result<(u64, Connection), Error> {
        let mut held = self.held.lock().await;
        if let Some(connection) = &held.connection {
            return Ok((held.number, Connection::clone(connection)));
        }
        let connection = self.pool.get().await.map_err(|error| self.unreachable(&error))?;
        let handle = Connection::clone(&connection);
        *held = Held { number: held.number + 1, connection: Some(connection) };
        Ok((held.number, handle))
    }

    /// Whether the node of a Cluster that has a key does not answer, as far as it is known.
    pub(super) fn is_away(&self, key: &str) -> bool {
        let Ok(held) = self.held.try_lock() else { return false };
        match held.connection.as_deref() {
            Some(Connection::Cluster(cluster)) => cluster.is_away(key),
            _ => false,
        }
    }

    /// Closes the connection. The next command establishes another one.
    pub async fn close(&self) {
        if let Some(connection) = self.held.lock().await.connection.take() {
            drop(Object::take(connection));
        }
    }

    /// Whether Redis answers twice on a connection that is used for nothing else. In a Cluster, each node that lost a command
    /// of this link.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        let used = self.held.lock().await.connection.as_deref().cloned();
        if let Some(Connection::Cluster(cluster)) = used {
            return Ok(cluster.probe().await?);
        }
        let link = self.another();
        let answered = link.run(async |connection| ping_twice(connection).await).await;
        link.close().await;
        answered
    }

    async fn throw_away(&self, number: u64) {
        let mut held = self.held.lock().await;
        if held.number == number
            && let Some(connection) = held.connection.take()
        {
            drop(Object::take(connection));
        }
    }

    fn unreachable(&self, error: &PoolError<redis::RedisError>) -> Error {
        let why = match error {
            PoolError::Backend(error) => error.to_string(),
            other => other.to_string(),
        };
        Error::Unreachable { target: self.target.to_string(), why }
    }
}
