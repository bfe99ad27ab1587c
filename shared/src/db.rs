//! The handle on Redis: its address, the prefix of the keys, and the connections.
//!
//! A [`Db`] gives access to everything that Redial stores: the queues, each in a Cluster slot of its own, and the limits, breakers and
//! memos that the whole fleet shares. They all use one multiplexed [`Link`]; only a blocking command needs a connection of its own.

mod background;
mod cluster;
pub mod embedded;
pub mod keys;
mod link;
mod manager;
mod options;
pub mod partition_map;
mod partitions;
mod probe;
mod registry;
pub(crate) mod stream_entries;
mod target;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Pool, Timeouts};
use redis::{RedisResult, from_redis_value};

use crate::script::TypedCall;
use crate::{Error, ErrorRecovery, UnixMs};
use background::BackgroundHandle;
use keys::FleetKeys;
use manager::{ConnectionTimeouts, Manager};
use partition_map::PartitionCache;

pub use link::Link;
pub use manager::Connection;
pub use target::Target;

/// The timeout of a command. A node under load may need longer than redis's default of 500 ms.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time that a command of a waiter blocks at the server.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a worker that listens for pushes. Others notice on its behalf when Redis does not answer.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum number of connections of each kind (for blocking commands, and for all others) that one process opens. Each queue of a
/// worker blocks on one of its own, so this is more than any number of queues.
const MAX_CONNECTIONS: usize = 10_000;

tokio::task_local! {
    /// The connection of a command that runs in isolation.
    static ISOLATED: Arc<Link>;
}

/// A Redis (one node, Sentinel or a Cluster) and the prefix of the keys in it. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Arc<Target>,
    keys: FleetKeys,
    link: Link,
    blocking: Pool<Manager>,
    listening: Pool<Manager>,
    deliveries: Arc<BackgroundHandle>,
    partitions: PartitionCache,
    round_trips: RoundTripObserver,
}

/// Who learns how long Redis took to answer.
#[derive(Default)]
struct RoundTripObserver(OnceLock<Box<dyn Fn(Duration) + Send + Sync>>);

impl fmt::Debug for RoundTripObserver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RoundTripObserver")
    }
}

impl Db {
    /// Prepares connections to `url` for the keys under `prefix`. Connects at the first command.
    ///
    /// # Errors
    /// [`Error::Url`] when the address cannot be parsed.
    pub fn open(url: &str, prefix: &str) -> Result<Self, Error> {
        let target = Arc::new(Target::parse(url)?);
        let pool = |response| {
            let timeouts = ConnectionTimeouts { connect: CONNECT_TIMEOUT, response };
            Pool::builder(Manager::new(&target, timeouts)?)
                .max_size(MAX_CONNECTIONS)
                .timeouts(Timeouts {
                    wait: Some(CONNECT_TIMEOUT),
                    create: Some(CONNECT_TIMEOUT + RESPONSE_TIMEOUT),
                    recycle: Some(RESPONSE_TIMEOUT),
                })
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| Error::Url(error.to_string()))
        };
        let link = Link::new(pool(RESPONSE_TIMEOUT)?, target.clone());
        let blocking = pool(BLOCK_TIMEOUT + RESPONSE_TIMEOUT)?;
        let listening = pool(LISTEN_TIMEOUT + RESPONSE_TIMEOUT)?;
        Ok(Self {
            shared: Arc::new(Shared {
                keys: FleetKeys::new(prefix),
                link,
                blocking,
                listening,
                deliveries: Arc::default(),
                partitions: PartitionCache::default(),
                round_trips: RoundTripObserver::default(),
                target,
            }),
        })
    }

    /// Where Redis is. Its `Display` leaves out the password.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// Whether keys are spread over the nodes of a Redis Cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(*self.shared.target, Target::Cluster(_))
    }

    /// Whether a key is on a node of a Cluster that does not answer, as far as it is known. Of a single Redis it is always `false`:
    /// there, everything waits together.
    pub(crate) fn is_away(&self, key: impl FnOnce() -> String) -> bool {
        self.is_cluster() && self.shared.link.is_away(&key())
    }

    /// Checks that Redis answers.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn ping(&self) -> Result<(), Error> {
        self.run(async |connection| redis::cmd("PING").exec_async(connection).await).await
    }

    /// The folder where Redis keeps its data.
    ///
    /// # Errors
    /// Redis is unreachable or does not allow `CONFIG GET`.
    pub async fn data_folder(&self) -> Result<PathBuf, Error> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("dir");
        let (_, folder): (String, String) = self.run(async |connection| get.query_async(connection).await).await?;
        Ok(folder.into())
    }

    /// What `INFO` says, for each node that takes writes: its address and its text.
    ///
    /// # Errors
    /// Redis is unreachable or does not allow `INFO`.
    pub async fn server_info(&self) -> Result<Vec<(String, String)>, Error> {
        let info = redis::cmd("INFO");
        let target = self.target().to_string();
        self.run(async |connection| match connection {
            Connection::Node(_) => Ok(vec![(target, info.query_async(connection).await?)]),
            Connection::Cluster(cluster) => {
                let infos = cluster.send_to_masters(&info).await?.into_iter();
                infos.map(|(node, info)| Ok((node, from_redis_value(info)?))).collect()
            }
        })
        .await
    }

    /// Redis TIME, the fleet's clock.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn now(&self) -> Result<UnixMs, Error> {
        let (seconds, micros): (u64, u64) =
            self.run(async |connection| redis::cmd("TIME").query_async(connection).await).await?;
        Ok(UnixMs(seconds * 1000 + micros / 1000))
    }

    /// Runs a future that sends a command which may be what Redis closes connections for. It goes over a connection of its own, so
    /// that nothing else suffers, and so that nothing else can be what closed it.
    ///
    /// # Errors
    /// Those of the future. But if the connection was closed, and the same node does not keep another one open on which nothing but
    /// `PING` is sent, then it was not this command's doing: [`Error::Unreachable`].
    pub async fn in_isolation<T>(&self, command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let link = Arc::new(self.shared.link.another());
        let mut outcome = ISOLATED.scope(link.clone(), command).await;
        if outcome.as_ref().is_err_and(|error| error.recovery() == ErrorRecovery::Unclear)
            && let Err(error) = link.probe().await
        {
            outcome = Err(Error::Unreachable { target: self.shared.target.to_string(), why: error.to_string() });
        }
        link.close().await;
        outcome
    }

    /// A connection for one command at a time that blocks for up to [`LISTEN_TIMEOUT`].
    pub(crate) fn listening_link(&self) -> Link {
        Link::new(self.shared.listening.clone(), self.shared.target.clone())
    }

    /// A connection for one command at a time that blocks for up to [`BLOCK_TIMEOUT`].
    pub fn blocking_link(&self) -> Link {
        Link::new(self.shared.blocking.clone(), self.shared.target.clone())
    }

    /// Waits until no reply is on its way to another Cluster slot any more.
    pub async fn deliveries_done(&self) {
        self.shared.deliveries.all_done().await;
    }

    /// What delivers replies to other Cluster slots: a lane for each list.
    pub(crate) fn deliveries(&self) -> &Arc<BackgroundHandle> {
        &self.shared.deliveries
    }

    /// The keys of what the fleet shares.
    pub(crate) fn keys(&self) -> &FleetKeys {
        &self.shared.keys
    }

    /// Runs commands over the shared connection: see [`Link::run`].
    pub(crate) async fn run<T>(
        &self,
        commands: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let answer = match ISOLATED.try_get() {
            Ok(link) => link.run(commands).await,
            Err(_) => self.shared.link.run(commands).await,
        };
        if let Some(observe) = self.shared.round_trips.0.get() {
            observe(started.elapsed());
        }
        answer
    }

    /// Has `observe` told from now on how long each round trip to Redis took, whatever came of it; those that block are left out. Only
    /// the first caller is heard.
    pub fn observe_round_trips(&self, observe: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.shared.round_trips.0.set(Box::new(observe));
    }

    /// Runs one script over the shared connection.
    pub(crate) async fn call<C: TypedCall>(&self, call: &C) -> Result<C::Reply, Error> {
        let invocation = call.invocation();
        C::parse(self.run(async |connection| invocation.run(connection).await).await?)
    }
}
