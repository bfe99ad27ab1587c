//! The connection to one node of a Cluster, replaced when it fails.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use crate::db::probe::ping_twice;

/// While a node is away, one task tries to connect to it, this often, and all commands for it fail at once.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);
/// A node that answers nothing for this long although commands wait counts as away, before the first of them times out.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// The nodes that are known to be away, so that this is logged once for all connections to a Cluster.
#[derive(Debug, Default)]
pub(super) struct AwayNodes(std::sync::Mutex<HashSet<String>>);

impl AwayNodes {
    fn addresses(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, address: &str, error: &RedisError) {
        if self.addresses().insert(address.to_owned()) {
            tracing::warn!(node = address, %error, "a node of the Cluster does not answer: what it holds has to wait");
        }
    }

    fn found(&self, address: &str) {
        if self.addresses().remove(address) {
            tracing::info!(node = address, "the node of the Cluster answers again");
        }
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    address: String,
    client: Client,
    config: AsyncConnectionConfig,
    link: Mutex<NodeLink>,
    away: Arc<AwayNodes>,
    /// Whether its last connection failed and no other could be made yet.
    is_away: AtomicBool,
    /// Whether commands were lost with a connection to it.
    has_lost_commands: AtomicBool,
    started: Instant,
    /// How many commands wait for an answer, and since when there has been none, in ms since `started`.
    waiting: AtomicUsize,
    silent_since_ms: AtomicU64,
}

/// A command that waits for an answer.
struct Waiting<'a>(&'a Node);

impl<'a> Waiting<'a> {
    fn new(node: &'a Node) -> Self {
        if node.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            node.silent_since_ms.store(node.now_ms(), Ordering::Relaxed);
        }
        Self(node)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct NodeLink {
    /// Incremented with each connection, so that a failure of an old one does not throw away the new one.
    number: u64,
    connection: Option<MultiplexedConnection>,
    /// Why there is no connection, while a task tries to make one.
    failed: Option<RedisError>,
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
    pub(super) fn new(
        address: String,
        info: ConnectionInfo,
        config: AsyncConnectionConfig,
        away: Arc<AwayNodes>,
    ) -> RedisResult<Self> {
        let client = Client::open(info)?;
        Ok(Self {
            address,
            client,
            config,
            link: Mutex::default(),
            away,
            is_away: AtomicBool::new(false),
            has_lost_commands: AtomicBool::new(false),
            started: Instant::now(),
            waiting: AtomicUsize::new(0),
            silent_since_ms: AtomicU64::new(0),
        })
    }

    /// Whether a command sent now would most likely not be answered.
    pub(super) fn is_away(&self) -> bool {
        let silence_ms = self.now_ms().saturating_sub(self.silent_since_ms.load(Ordering::Relaxed));
        let is_silent = self.waiting.load(Ordering::Relaxed) > 0 && Duration::from_millis(silence_ms) > MAX_SILENCE;
        is_silent || self.is_away.load(Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends commands and returns their answers. `asking`: although the slot is only on its way here.
    pub(super) async fn send(self: &Arc<Self>, commands: Commands<'_>, asking: bool) -> RedisResult<Vec<Value>> {
        let (number, mut connection) = self.connection().await?;
        let waiting = Waiting::new(self);
        let answer = exchange(&mut connection, commands, asking).await;
        drop(waiting);
        match &answer {
            Err(error) if error.kind() == ErrorKind::Io => self.lost(number, error).await,
            _ => self.silent_since_ms.store(self.now_ms(), Ordering::Relaxed),
        }
        answer
    }

    async fn connection(self: &Arc<Self>) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok((link.number, connection.clone()));
        }
        if let Some(error) = &link.failed {
            return Err(error.clone());
        }
        let connected = self.connect().await;
        self.take_over(&mut link, connected)
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.client.get_multiplexed_async_connection_with_config(&self.config).await
    }

    /// Commands were lost with a connection to the node.
    pub(super) fn note_lost_commands(&self) {
        self.has_lost_commands.store(true, Ordering::Relaxed);
    }

    /// Whether commands were lost with a connection to the node.
    pub(super) fn has_lost_commands(&self) -> bool {
        self.has_lost_commands.load(Ordering::Relaxed)
    }

    /// Whether the node answers twice on a connection that is used for nothing else.
    pub(super) async fn probe(&self) -> RedisResult<()> {
        ping_twice(&mut self.connect().await?).await
    }

    /// Takes over a new connection, or why there is none.
    fn take_over(
        self: &Arc<Self>,
        link: &mut NodeLink,
        connected: RedisResult<MultiplexedConnection>,
    ) -> RedisResult<(u64, MultiplexedConnection)> {
        match connected {
            Ok(connection) => {
                link.number += 1;
                link.failed = None;
                link.connection = Some(connection.clone());
                self.is_away.store(false, Ordering::Relaxed);
                self.away.found(&self.address);
                Ok((link.number, connection))
            }
            Err(error) => {
                self.fail(link, &error);
                Err(error)
            }
        }
    }

    /// A connection has failed: it is thrown away, unless that has been done.
    async fn lost(self: &Arc<Self>, number: u64, error: &RedisError) {
        let mut link = self.link.lock().await;
        if link.number == number && link.connection.take().is_some() {
            self.fail(&mut link, error);
        }
    }

    fn fail(self: &Arc<Self>, link: &mut NodeLink, error: &RedisError) {
        let is_first = link.failed.replace(error.clone()).is_none();
        self.is_away.store(true, Ordering::Relaxed);
        if is_first {
            self.away.lost(&self.address, error);
            tokio::spawn(reconnect(Arc::downgrade(self)));
        }
    }
}

/// Tries to connect until it succeeds, or until nobody needs the node any more.
async fn reconnect(node: Weak<Node>) {
    loop {
        let Some(node) = node.upgrade() else { return };
        let connected = node.connect().await;
        let mut link = node.link.lock().await;
        if node.take_over(&mut link, connected).is_ok() {
            return;
        }
        drop(link);
        drop(node);
        tokio::time::sleep(RECONNECT_INTERVAL.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}
