//! The connection to one node of a Cluster, replaced when it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

/// After a failed attempt to connect, all who wait for it fail with it, and so do those who come within this time.
const CONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    address: String,
    client: Client,
    config: AsyncConnectionConfig,
    link: Mutex<NodeLink>,
    /// Whether its last connection failed, so that only one of the many that notice logs it.
    is_away: AtomicBool,
}

#[derive(Default)]
struct NodeLink {
    /// Incremented with each connection, so that a failure of an old one does not throw away the new one.
    number: u64,
    connection: Option<MultiplexedConnection>,
    failed: Option<(Instant, RedisError)>,
}

impl std::fmt::Debug for NodeLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeLink").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What is sent to a node, all of it for one slot.
#[derive(Clone, Copy)]
pub(super) enum Commands<'a> {
    One(&'a Cmd),
    Many {
        pipeline: &'a Pipeline,
        /// Which of its answers are wanted.
        offset: usize,
        count: usize,
    },
}

async fn exchange(
    connection: &mut MultiplexedConnection,
    commands: Commands<'_>,
    asking: bool,
) -> RedisResult<Vec<Value>> {
    match commands {
        Commands::One(command) if asking => {
            let mut both = redis::pipe();
            both.add_command(redis::cmd("ASKING")).add_command(command.clone());
            let answers = connection.req_packed_commands(&both, 0, 2).await?;
            answers.into_iter().skip(1).map(Value::extract_error).collect()
        }
        Commands::One(command) => Ok(vec![connection.req_packed_command(command).await?.extract_error()?]),
        Commands::Many { pipeline, offset, count } => {
            if asking {
                connection.req_packed_command(&redis::cmd("ASKING")).await?;
            }
            let answers = connection.req_packed_commands(pipeline, offset, count).await?;
            // A slot that has moved has moved for all of them.
            match answers.first() {
                Some(Value::ServerError(error)) => Err(error.clone().into()),
                _ => Ok(answers),
            }
        }
    }
}

impl Node {
    pub(super) fn new(address: String, info: ConnectionInfo, config: AsyncConnectionConfig) -> RedisResult<Self> {
        let client = Client::open(info)?;
        Ok(Self { address, client, config, link: Mutex::default(), is_away: AtomicBool::new(false) })
    }

    /// Sends commands and returns their answers. `asking`: although the slot is only on its way here.
    pub(super) async fn send(&self, commands: Commands<'_>, asking: bool) -> RedisResult<Vec<Value>> {
        let (number, mut connection) = self.connection().await?;
        let answer = exchange(&mut connection, commands, asking).await;
        match &answer {
            Err(error) if error.kind() == ErrorKind::Io => {
                self.report_away(error);
                self.throw_away(number).await;
            }
            _ => self.report_back(),
        }
        answer
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok((link.number, connection.clone()));
        }
        if let Some((_, error)) = link.failed.as_ref().filter(|(at, _)| at.elapsed() < CONNECT_INTERVAL) {
            return Err(error.clone());
        }
        match self.client.get_multiplexed_async_connection_with_config(&self.config).await {
            Ok(connection) => {
                link.number += 1;
                link.failed = None;
                link.connection = Some(connection.clone());
                Ok((link.number, connection))
            }
            Err(error) => {
                self.report_away(&error);
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn throw_away(&self, number: u64) {
        let mut link = self.link.lock().await;
        if link.number == number {
            link.connection = None;
        }
    }

    fn report_away(&self, error: &RedisError) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = self.address, %error, "a node of the Cluster does not answer: what it holds has to wait");
        }
    }

    fn report_back(&self) {
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!(node = self.address, "the node of the Cluster answers again");
        }
    }
}
