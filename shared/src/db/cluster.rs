//! A Redis Cluster: one connection for each node that is used, and a map of which node has which slot.
//!
//! A node that does not answer holds up the commands for its own slots, and no others. That is why the Cluster client of redis is not used
//! here: it answers nobody while it looks for the new owner of a slot.

mod node;
mod slots;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::cluster_routing::Slot;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use tokio::task::JoinSet;

use node::{AwayNodes, Commands, Node};
use slots::{Address, SlotMap};

/// How often a command is sent again because another node has its slot, or because the slot is just moving.
const MAX_REDIRECTS: usize = 8;
/// How long to wait while a slot is moving.
const MOVING_WAIT: Duration = Duration::from_millis(20);
/// The least time between two looks at the map, however many commands fail.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a node may take to tell the map.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How many nodes are asked for the map at a time.
const LOOK_AT_ONCE: usize = 3;

/// A Cluster: what all connections to it share.
#[derive(Debug)]
pub struct ClusterClient {
    /// Nodes that are known from the start, with login and TLS.
    seeds: Vec<ConnectionInfo>,
    config: AsyncConnectionConfig,
    map: Mutex<SlotMap>,
    away: Arc<AwayNodes>,
    /// When the map was last asked for. Held while it is.
    looking: tokio::sync::Mutex<Option<Instant>>,
    /// Why a node refused to tell the map when it was last asked.
    refusal: Mutex<Option<RedisError>>,
}

/// Connections to the nodes of a Cluster, each made when it is first needed. Clones share them.
#[derive(Debug, Clone)]
pub struct ClusterConnection {
    cluster: Arc<ClusterClient>,
    nodes: Arc<Mutex<HashMap<Address, Arc<Node>>>>,
}

impl ClusterClient {
    /// The Cluster of these nodes. Connects to none of them yet.
    pub fn new(seeds: Vec<ConnectionInfo>, config: AsyncConnectionConfig) -> Self {
        Self {
            seeds,
            config,
            map: Mutex::default(),
            away: Arc::default(),
            looking: tokio::sync::Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    fn map(&self) -> MutexGuard<'_, SlotMap> {
        locked(&self.map)
    }

    /// The node that has a slot; any, for a command without a key.
    fn owner(&self, slot: Option<Slot>) -> Option<Address> {
        let map = self.map();
        match slot {
            Some(slot) => map.owner(slot),
            None => map.masters().into_iter().next(),
        }
    }

    fn connection_info(&self, address: &Address) -> Option<ConnectionInfo> {
        let seed = self.seeds.first()?;
        let (host, port) = (address.host.clone(), address.port);
        let addr = match seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Some(seed.clone().set_addr(addr))
    }

    fn seed_addresses(&self) -> impl Iterator<Item = Address> {
        self.seeds.iter().filter_map(|seed| match seed.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address { host: host.clone(), port: *port })
            }
            _ => None,
        })
    }
}

impl ClusterConnection {
    /// No connections yet.
    pub fn new(cluster: Arc<ClusterClient>) -> Self {
        Self { cluster, nodes: Arc::default() }
    }

    /// Sends a command to the node that has its key.
    ///
    /// # Errors
    /// The node does not answer, or refuses the command.
    pub async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answers = self.route(slot_of(command), Commands::One(command)).await?;
        Ok(answers.into_iter().next().unwrap_or(Value::Nil))
    }

    /// Sends commands, all for keys of one slot, to the node that has it.
    ///
    /// # Errors
    /// The node does not answer, or refuses the commands.
    pub async fn send_all(&self, commands: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let slot = commands.cmd_iter().find_map(slot_of);
        self.route(slot, Commands::Many { pipeline: commands, offset, count }).await
    }

    /// Sends a command to each master. Returns the answer of each.
    ///
    /// # Errors
    /// One of them does not answer, or refuses the command.
    pub async fn send_to_masters(&self, command: &Cmd) -> RedisResult<Vec<(String, Value)>> {
        if self.cluster.map().masters().is_empty() {
            self.look(true).await;
        }
        let masters = self.cluster.map().masters();
        if masters.is_empty() {
            return Err(self.unserved());
        }
        let mut answers = Vec::with_capacity(masters.len());
        for master in masters {
            let answer = self.node(&master)?.send(Commands::One(command), false).await?;
            answers.extend(answer.into_iter().map(|answer| (master.to_string(), answer)));
        }
        Ok(answers)
    }

    /// Whether each node that lost a command answers twice on a connection that is used for nothing else.
    ///
    /// # Errors
    /// One of them does not.
    pub async fn probe(&self) -> RedisResult<()> {
        let nodes: Vec<Arc<Node>> = locked(&self.nodes).values().cloned().collect();
        for node in nodes.iter().filter(|node| node.has_lost_commands()) {
            node.probe().await?;
        }
        Ok(())
    }

    /// Whether the node that has a key does not answer, as far as it is known.
    pub fn is_away(&self, key: &str) -> bool {
        let Some(owner) = self.cluster.owner(Some(Slot::for_key(key))) else { return false };
        locked(&self.nodes).get(&owner).is_some_and(|node| node.is_away())
    }

    /// Sends something to the node that has a slot, and follows it if the slot has moved.
    async fn route(&self, slot: Option<Slot>, commands: Commands<'_>) -> RedisResult<Vec<Value>> {
        let mut target = self.owner_of(slot).await?;
        let mut asking = false;
        for _ in 0..MAX_REDIRECTS {
            let node = self.node(&target)?;
            let error = match node.send(commands, asking).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            asking = false;
            if error.kind() == ErrorKind::Io {
                node.note_lost_commands();
            }
            match error.kind() {
                ErrorKind::Server(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                    let Some((address, _)) = error.redirect_node() else { return Err(error) };
                    target = Address::parse(address, &target).ok_or(error)?;
                    asking = kind == ServerErrorKind::Ask;
                    if let Some(slot) = slot.filter(|_| !asking) {
                        self.cluster.map().set_owner(slot, target.clone());
                        self.look_soon();
                    }
                }
                ErrorKind::Server(ServerErrorKind::TryAgain) => tokio::time::sleep(MOVING_WAIT).await,
                ErrorKind::Server(
                    ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly,
                )
                | ErrorKind::Io => {
                    self.look_soon();
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
        Err(RedisError::from((ErrorKind::ClusterConnectionNotFound, "a slot moves on and on", target.to_string())))
    }

    async fn owner_of(&self, slot: Option<Slot>) -> RedisResult<Address> {
        if let Some(owner) = self.cluster.owner(slot) {
            return Ok(owner);
        }
        self.look(true).await;
        self.cluster.owner(slot).ok_or_else(|| self.unserved())
    }

    fn node(&self, address: &Address) -> RedisResult<Arc<Node>> {
        let mut nodes = locked(&self.nodes);
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        let info = self.cluster.connection_info(address).ok_or_else(unserved)?;
        let away = self.cluster.away.clone();
        let node = Arc::new(Node::new(address.to_string(), info, self.cluster.config.clone(), away)?);
        nodes.insert(address.clone(), node.clone());
        Ok(node)
    }

    /// Why nobody is known to have a slot.
    fn unserved(&self) -> RedisError {
        locked(&self.cluster.refusal).clone().unwrap_or_else(unserved)
    }

    /// Looks at the map in the background.
    fn look_soon(&self) {
        let connection = self.clone();
        tokio::spawn(async move { connection.look(false).await });
    }

    /// Asks the nodes which of them has which slot, unless that was done just now. `wait`: also if somebody is about to.
    async fn look(&self, wait: bool) {
        let mut looking = match self.cluster.looking.try_lock() {
            Ok(looking) => looking,
            Err(_) if wait => self.cluster.looking.lock().await,
            Err(_) => return,
        };
        if looking.is_some_and(|at| at.elapsed() < LOOK_INTERVAL) {
            return;
        }
        *looking = Some(Instant::now());
        let mut candidates = self.cluster.map().masters();
        candidates.extend(self.cluster.seed_addresses().filter(|seed| !candidates.contains(seed)).collect::<Vec<_>>());
        for some in candidates.chunks(LOOK_AT_ONCE) {
            match self.first_map(some).await {
                Ok(map) => {
                    self.forget_nodes_outside(&map);
                    *self.cluster.map() = map;
                    *locked(&self.cluster.refusal) = None;
                    return;
                }
                Err(refusal) => *locked(&self.cluster.refusal) = refusal,
            }
        }
    }

    /// The map, from the first of these nodes that tells it.
    ///
    /// # Errors
    /// None does. One of them may have refused to.
    async fn first_map(&self, candidates: &[Address]) -> Result<SlotMap, Option<RedisError>> {
        let mut asked = JoinSet::new();
        for address in candidates {
            let (Ok(node), address) = (self.node(address), address.clone()) else { continue };
            asked.spawn(async move {
                let mut ask = redis::cmd("CLUSTER");
                ask.arg("SLOTS");
                let answer = tokio::time::timeout(LOOK_TIMEOUT, node.send(Commands::One(&ask), false)).await;
                let reply = match answer {
                    Ok(Ok(reply)) => reply.into_iter().next().ok_or(None)?,
                    Ok(Err(refusal)) if is_refusal(&refusal) => return Err(Some(refusal)),
                    Ok(Err(_)) | Err(_) => return Err(None),
                };
                let map = SlotMap::parse(reply, &address).ok_or(None)?;
                if map.masters().is_empty() { Err(None) } else { Ok(map) }
            });
        }
        let mut refused = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(map)) => return Ok(map),
                Ok(Err(refusal)) => refused = refused.or(refusal),
                Err(_) => {}
            }
        }
        Err(refused)
    }

    /// Closes the connections to nodes that have no slots any more.
    fn forget_nodes_outside(&self, map: &SlotMap) {
        let masters = map.masters();
        locked(&self.nodes).retain(|address, _| masters.contains(address));
    }
}

/// What a mutex protects. Nothing is left half done by a panic here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slot of a command's key; `None` if it has none.
fn slot_of(command: &Cmd) -> Option<Slot> {
    let mut words = command.args_iter().map(|arg| match arg {
        redis::Arg::Simple(bytes) => bytes,
        _ => &[],
    });
    let key = match words.next()? {
        b"EVALSHA" | b"EVAL" => words.nth(2),
        b"PING" | b"TIME" | b"INFO" | b"CONFIG" | b"CLUSTER" => None,
        _ => words.next(),
    };
    key.map(Slot::for_key)
}

/// Whether a node answers, but does not let this user ask.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm))
        || error.kind() == ErrorKind::AuthenticationFailed
}

fn unserved() -> RedisError {
    RedisError::from((ErrorKind::Io, "no node of the Cluster tells which of them has the slot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_where_its_key_is() {
        let mut script = redis::cmd("EVALSHA");
        script.arg("sha").arg(2).arg("redial:{a}").arg("redial:{a}:stats").arg("redial:{b}");
        assert_eq!(slot_of(&script), Some(Slot::for_key("a")));
        assert_eq!(slot_of(redis::cmd("LPUSH").arg("redial:{b}").arg("x")), Some(Slot::for_key("b")));
        for keyless in ["PING", "TIME", "INFO"] {
            assert_eq!(slot_of(&redis::cmd(keyless)), None);
        }
        assert_eq!(slot_of(redis::cmd("CONFIG").arg("GET").arg("dir")), None);
    }
}
