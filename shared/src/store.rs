//! Connections: to one node, to the master that Sentinel names, to a Cluster.
//!
//! A [`Store`] is the address and a pool of connections; a [`Link`] is one multiplexed connection, held for as long as it
//! works and replaced when it does not. Taking one from the pool for each command would cost a round trip each time.

mod manager;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Object, Pool, PoolError, Timeouts};
use redis::RedisResult;
use tokio::sync::Mutex;

pub use manager::Wire;
use manager::{Manager, Patience};
pub use target::Target;

use crate::Error;

/// How long a command may take. redis's own default of 500 ms is less than a node under load may need.
const RESPONSE: Duration = Duration::from_secs(5);
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest that a command may block at the server; an idle worker looks around at least this often.
pub const BLOCK: Duration = Duration::from_secs(2);
/// The most connections of one process.
const MAX_CONNECTIONS: usize = 128;

/// Where Redis is, and the connections to it.
#[derive(Debug, Clone)]
pub struct Store {
    target: Arc<Target>,
    prompt: Pool<Manager>,
    blocking: Pool<Manager>,
}

impl Store {
    /// Prepares connections to `url`; makes none yet.
    ///
    /// # Errors
    /// [`Error::Url`] when the address can't be read.
    pub fn open(url: &str) -> Result<Self, Error> {
        let target = Arc::new(Target::parse(url)?);
        let pool = |response| {
            let patience = Patience { connect: CONNECT, response };
            Pool::builder(Manager::new(&target, patience)?)
                .max_size(MAX_CONNECTIONS)
                .timeouts(Timeouts { wait: Some(CONNECT), create: Some(CONNECT + RESPONSE), recycle: Some(RESPONSE) })
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| Error::Url(error.to_string()))
        };
        Ok(Self { prompt: pool(RESPONSE)?, blocking: pool(BLOCK + RESPONSE)?, target })
    }

    /// Where Redis is, without the password.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether Redis answers there.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.link().run(async |wire| redis::cmd("PING").exec_async(wire).await).await
    }

    /// The folder where Redis keeps its data.
    ///
    /// # Errors
    /// That of Redis, which may keep it to itself.
    pub async fn data_folder(&self) -> Result<PathBuf, Error> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("dir");
        let (_, folder): (String, String) = self.link().run(async |wire| get.query_async(wire).await).await?;
        Ok(folder.into())
    }

    /// A connection for commands that answer at once. Any number of tasks may use it at a time.
    pub fn link(&self) -> Link {
        Link::new(self.prompt.clone(), &self.target)
    }

    /// A connection for one blocking command at a time.
    pub fn blocking_link(&self) -> Link {
        Link::new(self.blocking.clone(), &self.target)
    }
}

/// One connection, held for as long as it works.
#[derive(Debug)]
pub struct Link {
    pool: Pool<Manager>,
    target: Arc<Target>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Raised with each connection, so that a failure of an old one does not throw away the new one.
    number: u64,
    connection: Option<Object<Manager>>,
}

impl Link {
    fn new(pool: Pool<Manager>, target: &Arc<Target>) -> Self {
        Self { pool, target: target.clone(), held: Mutex::default() }
    }

    /// Runs commands over this connection, making it first if there is none. One try: whether and when to repeat is the
    /// caller's to decide.
    ///
    /// # Errors
    /// What Redis answered, or that it did not. A connection that failed is thrown away.
    pub async fn run<T>(&self, commands: impl AsyncFnOnce(&mut Wire) -> RedisResult<T>) -> Result<T, Error> {
        let (number, mut wire) = self.wire().await?;
        let answer = commands(&mut wire).await.map_err(Error::from);
        if answer.as_ref().is_err_and(Error::spoils_connection) {
            self.throw_away(number).await;
        }
        answer
    }

    async fn wire(&self) -> Result<(u64, Wire), Error> {
        let mut held = self.held.lock().await;
        if let Some(connection) = &held.connection {
            return Ok((held.number, Wire::clone(connection)));
        }
        let connection = self.pool.get().await.map_err(|error| self.unreachable(&error))?;
        let wire = Wire::clone(&connection);
        *held = Held { number: held.number + 1, connection: Some(connection) };
        Ok((held.number, wire))
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
