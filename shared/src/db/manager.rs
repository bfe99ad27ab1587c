//! How deadpool establishes connections. Its own managers do not support timeouts for Cluster and Sentinel.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, RedisFuture, TlsCertificates,
    TlsMode, Value,
};
use tokio::sync::Mutex;

use super::Target;
use super::cluster::{ClusterClient, ClusterConnection};
use super::target::tcp;
use crate::Error;

/// How many commands may wait in one connection to be written; with redis's default of 50, batches would have to wait.
const PIPELINE_BUFFER: usize = 1024;

/// Timeouts for establishing a connection, and for one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionTimeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

/// Establishes connections to one target.
pub(super) enum Manager {
    Node(Box<deadpool_redis::Manager>),
    Cluster(Arc<ClusterClient>),
    Sentinel(Arc<Mutex<SentinelClient>>, AsyncConnectionConfig),
}

/// A connection of any kind. Clones share it.
#[derive(Clone)]
pub enum Connection {
    /// To one node.
    Node(MultiplexedConnection),
    /// To all nodes of a Cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "Connection::Node",
            Self::Cluster(_) => "Connection::Cluster",
        })
    }
}

impl Manager {
    pub(super) fn new(target: &Target, timeouts: ConnectionTimeouts) -> Result<Self, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        Ok(match target {
            Target::Node(info) => {
                Self::Node(Box::new(deadpool_redis::Manager::new_with_config(info.as_ref().clone(), config)?))
            }
            Target::Cluster(nodes) => Self::Cluster(Arc::new(ClusterClient::new(nodes.clone(), config))),
            Target::Sentinel { sentinels, master, login, certificates } => {
                let client = sentinel_client(sentinels, master, login, certificates.as_ref())?;
                Self::Sentinel(Arc::new(Mutex::new(client)), config)
            }
        })
    }
}

/// Asks these Sentinels where the master is. Those of one address have the same login.
fn sentinel_client(
    sentinels: &[ConnectionInfo],
    master: &str,
    login: &ConnectionInfo,
    certificates: Option<&TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
    let settings = login.redis_settings();
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(settings.db())
        .set_client_to_redis_protocol(settings.protocol())
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(user) = settings.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if matches!(login.addr(), ConnectionAddr::TcpTls { .. }) {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder.set_client_to_redis_certificates(certificates.clone());
    }
    let of_sentinels = sentinels.first().map(ConnectionInfo::redis_settings);
    if let Some(user) = of_sentinels.and_then(|settings| settings.username()) {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = of_sentinels.and_then(|settings| settings.password()) {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Manager")
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = RedisError;

    async fn create(&self) -> Result<Connection, RedisError> {
        match self {
            Self::Node(manager) => manager.create().await.map(Connection::Node),
            Self::Cluster(cluster) => Ok(Connection::Cluster(ClusterConnection::new(cluster.clone()))),
            Self::Sentinel(client, config) => {
                client.lock().await.get_async_connection_with_config(config).await.map(Connection::Node)
            }
        }
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<RedisError> {
        Ok(redis::cmd("PING").exec_async(connection).await?)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(node) => node.req_packed_command(command),
            Self::Cluster(cluster) => Box::pin(cluster.send(command)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(node) => node.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster) => Box::pin(cluster.send_all(commands, offset, count)),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Node(node) => node.get_db(),
            Self::Cluster(_) => 0,
        }
    }
}
