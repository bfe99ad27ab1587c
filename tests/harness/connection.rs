//! A connection to a single Redis or to a Cluster, depending on the URL.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The client's default of 500 ms would fail tests on a busy machine and while a test pauses Redis.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends commands and pipelines. On a Cluster, all keys of a pipeline must share one slot.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "the client's connections do not implement it")]
pub enum RedisConnection {
    /// A connection to one server.
    Single(MultiplexedConnection),
    /// Connections to all nodes of a Cluster.
    Cluster(ClusterConnection),
}

impl RedisConnection {
    /// Connects to `redis://…`, or to `redis-cluster://host:port,host:port,…`.
    pub async fn open(url: &str) -> RedisResult<Self> {
        match url.strip_prefix("redis-cluster://") {
            Some(nodes) => connect_cluster(nodes).await.map(Self::Cluster),
            None => connect_single(url).await.map(Self::Single),
        }
    }
}

pub(crate) async fn connect_single(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

async fn connect_cluster(nodes: &str) -> RedisResult<ClusterConnection> {
    let nodes = nodes.split(',').map(|node| format!("redis://{node}"));
    let client =
        ClusterClient::builder(nodes).connection_timeout(CONNECT_TIMEOUT).response_timeout(RESPONSE_TIMEOUT).build()?;
    client.get_async_connection().await
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
