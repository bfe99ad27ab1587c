//! A real Redis Cluster. Running on it proves that every script touches the keys of one slot only.

use std::time::Duration;

use redis::RedisResult;

use crate::redis_server::RedisServer;
use crate::wait::eventually;

const SLOTS: usize = 16_384;
/// How many keys of a slot move in one step.
const KEYS_AT_A_TIME: usize = 10;
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// Masters, each with a replica if the test asks for it; the slots are distributed evenly, in order.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    nodes: Vec<RedisServer>,
    /// How many of the nodes, from the first, began as masters.
    masters: usize,
}

impl Cluster {
    /// Starts `size` nodes and waits until each of them reports a healthy Cluster.
    pub async fn start(size: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..size {
            nodes.push(RedisServer::cluster_node().await);
        }
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let cluster = Self { url: format!("redis-cluster://{}", addresses.join(",")), nodes, masters: size };
        cluster.assign_slots().await.expect("new nodes accept slots");
        cluster.meet().await.expect("new nodes meet");
        for node in &cluster.nodes {
            eventually(FORM_TIMEOUT, || cluster.is_healthy_to(node)).await;
        }
        cluster
    }

    /// The same, and a replica of each node.
    pub async fn with_replicas(size: usize) -> Self {
        let mut cluster = Self::start(size).await;
        for index in 0..size {
            let replica = RedisServer::cluster_node().await;
            let first = cluster.nodes[0].port().to_string();
            replica.cli(&["CLUSTER", "MEET", "127.0.0.1", &first]).await;
            let master = cluster.nodes[index].cli(&["CLUSTER", "MYID"]).await;
            let follow = || async { (replica.cli(&["CLUSTER", "REPLICATE", &master]).await == "OK").then_some(()) };
            eventually(FORM_TIMEOUT, follow).await;
            let in_sync = || async {
                replica.cli(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(())
            };
            eventually(FORM_TIMEOUT, in_sync).await;
            cluster.nodes.push(replica);
        }
        for node in &cluster.nodes {
            eventually(FORM_TIMEOUT, || cluster.is_healthy_to(node)).await;
        }
        cluster
    }

    /// Lets each node tell clients another port for itself, such as that of a proxy, and waits until all nodes tell them.
    pub async fn announce_ports(&self, ports: &[u16]) {
        for (node, port) in self.nodes.iter().zip(ports) {
            node.cli(&["CONFIG", "SET", "cluster-announce-port", &port.to_string()]).await;
        }
        let known_to = async |node: &RedisServer| {
            let nodes = node.cli(&["CLUSTER", "NODES"]).await;
            ports.iter().all(|port| nodes.contains(&format!("127.0.0.1:{port}@"))).then_some(())
        };
        for node in &self.nodes {
            eventually(FORM_TIMEOUT, || known_to(node)).await;
        }
    }

    /// `redis-cluster://127.0.0.1:<port>,…` with all nodes that began as masters.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `redis://127.0.0.1:<port>` of each node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url().to_owned()).collect()
    }

    /// The nodes, which can be killed, paused or queried individually.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The node that currently holds a key. After a node was killed, the Cluster may need a moment to agree.
    pub async fn node_of(&self, key: &str) -> &RedisServer {
        eventually(FORM_TIMEOUT, || self.find_node_of(key)).await
    }

    async fn find_node_of(&self, key: &str) -> Option<&RedisServer> {
        for node in &self.nodes {
            let mut connection = node.connection().await;
            let exists: RedisResult<i64> = redis::cmd("EXISTS").arg(key).query_async(&mut connection).await;
            if exists.is_ok() {
                return Some(node);
            }
        }
        None
    }

    /// The nodes that are masters now.
    pub async fn masters(&self) -> Vec<&RedisServer> {
        if self.nodes.len() == self.masters {
            return self.nodes.iter().collect();
        }
        let mut masters = Vec::new();
        for node in &self.nodes {
            if node.cli(&["ROLE"]).await.starts_with("master") {
                masters.push(node);
            }
        }
        masters
    }

    /// Moves the slot of a key and everything in it to another node, as a reshard does: a few keys at a time, so slowly that
    /// clients see `ASK` and `MOVED` redirections meanwhile.
    pub async fn move_slot_of(&self, key: &str, target: &RedisServer) {
        let source = self.node_of(key).await;
        let slot = source.cli(&["CLUSTER", "KEYSLOT", key]).await;
        let source_id = source.cli(&["CLUSTER", "MYID"]).await;
        let target_id = target.cli(&["CLUSTER", "MYID"]).await;
        set_slot(target, &[&slot, "IMPORTING", &source_id]).await;
        set_slot(source, &[&slot, "MIGRATING", &target_id]).await;

        let port = target.port().to_string();
        loop {
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
            if keys.is_empty() {
                break;
            }
            let keys: Vec<&str> = keys.lines().collect();
            for keys in keys.chunks(KEYS_AT_A_TIME) {
                let moved =
                    source.cli(&[&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"], keys].concat()).await;
                // `NOKEY`: the keys have expired or were deleted meanwhile.
                assert!(moved == "OK" || moved == "NOKEY", "MIGRATE {keys:?}: {moved}");
            }
        }
        // The target first, so that it already owns the slot when the source gives it up.
        for node in [target, source] {
            set_slot(node, &[&slot, "NODE", &target_id]).await;
        }
    }

    /// Assigns them directly, because `redis-cli --cluster create` polls only once a second.
    async fn assign_slots(&self) -> RedisResult<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            let first = SLOTS * index / self.nodes.len();
            let end = SLOTS * (index + 1) / self.nodes.len();
            let mut connection = node.connection().await;
            redis::pipe()
                .cmd("CLUSTER")
                .arg("ADDSLOTS")
                .arg((first..end).collect::<Vec<_>>())
                // Distinct epochs from the start; otherwise the nodes resolve the collision themselves, slowly.
                .cmd("CLUSTER")
                .arg("SET-CONFIG-EPOCH")
                .arg(index + 1)
                .query_async::<()>(&mut connection)
                .await?;
        }
        Ok(())
    }

    async fn meet(&self) -> RedisResult<()> {
        let mut first = self.nodes[0].connection().await;
        for node in &self.nodes[1..] {
            redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port()).query_async::<()>(&mut first).await?;
        }
        Ok(())
    }

    async fn is_healthy_to(&self, node: &RedisServer) -> Option<()> {
        let info = node.cli(&["CLUSTER", "INFO"]).await;
        let reports = |line: &str| info.lines().any(|found| found.trim_end() == line);
        let all_known = reports(&format!("cluster_known_nodes:{}", self.nodes.len()));
        (reports("cluster_state:ok") && all_known).then_some(())
    }
}

async fn set_slot(node: &RedisServer, args: &[&str]) {
    let answer = node.cli(&[&["CLUSTER", "SETSLOT"], args].concat()).await;
    assert_eq!(answer, "OK", "CLUSTER SETSLOT {args:?}");
}

impl AsRef<str> for Cluster {
    fn as_ref(&self) -> &str {
        self.url()
    }
}
