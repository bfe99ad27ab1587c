//! The Redis under the fleet: one node, a master and its replica under a Sentinel, or a Cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use redial_core::Db;
use redial_tests::{Cluster, Proxy, RedisServer, Sentinel, TestQueue};

use crate::QUEUES;

/// The masters of the Cluster; each has a replica.
const CLUSTER_SIZE: usize = 3;
/// The workers' user on one node: it may use the keys of Redial and the reply lists, and administer nothing.
pub(crate) const USER: &str = "worker";
const USER_RULES: [&str; 9] =
    ["on", ">secret", "~redial:*", "~answers:*", "&*", "+@all", "-@admin", "-@dangerous", "+info"];

/// Which Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One node with an append-only file that is synced at every write.
    Node,
    /// A master that takes writes only while it has its replica, and a Sentinel that fails over.
    Sentinel,
    /// A Cluster of three masters and three replicas whose slots move.
    Cluster,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

enum Redis {
    Node(RedisServer),
    /// And whether its master was killed.
    Sentinel(Box<Sentinel>, AtomicBool),
    Cluster(Cluster),
}

/// A running Redis of one of these kinds, with a proxy in front of each of its servers, but not with a Sentinel, which judges
/// its servers by itself.
pub(crate) struct Topology {
    redis: Redis,
    links: Vec<Proxy>,
}

impl Topology {
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Node => {
                let args = [&["--appendfsync", "always", "--user", USER], &USER_RULES[..]].concat();
                let node = RedisServer::with_args_and_fake_clock(&args).await;
                let link = Proxy::before(node.port()).await;
                Self { redis: Redis::Node(node), links: vec![link] }
            }
            Kind::Sentinel => {
                let sentinel = Sentinel::start().await;
                sentinel.master().cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
                Self { redis: Redis::Sentinel(Box::new(sentinel), AtomicBool::new(false)), links: Vec::new() }
            }
            Kind::Cluster => {
                let cluster = Cluster::with_replicas(CLUSTER_SIZE).await;
                let mut links = Vec::new();
                for node in cluster.nodes() {
                    links.push(Proxy::before(node.port()).await);
                }
                let topology = Self { redis: Redis::Cluster(cluster), links };
                topology.configure().await;
                topology
            }
        }
    }

    /// Gives the nodes of a Cluster what they forget when they are restarted.
    async fn configure(&self) {
        let Redis::Cluster(cluster) = &self.redis else { return };
        for node in cluster.nodes() {
            node.cli(&["CONFIG", "SET", "appendfsync", "always"]).await;
        }
        cluster.announce_ports(&self.links.iter().map(Proxy::port).collect::<Vec<_>>()).await;
    }

    /// The address for workers.
    pub(crate) fn worker_url(&self) -> String {
        let ports = self.links.iter().map(|link| format!("127.0.0.1:{}", link.port())).collect::<Vec<_>>().join(",");
        match &self.redis {
            Redis::Node(_) => format!("redis://{USER}:secret@{ports}"),
            Redis::Sentinel(sentinel, _) => sentinel.url().to_owned(),
            Redis::Cluster(_) => format!("redis-cluster://{ports}"),
        }
    }

    /// The address of what takes writes now, for raw commands.
    pub(crate) fn primary_url(&self) -> &str {
        match &self.redis {
            Redis::Node(node) => node.url(),
            Redis::Sentinel(sentinel, failed_over) if failed_over.load(Ordering::Relaxed) => sentinel.replica().url(),
            Redis::Sentinel(sentinel, _) => sentinel.master().url(),
            Redis::Cluster(cluster) => cluster.url(),
        }
    }

    /// A handle as producers have it.
    pub(crate) fn db(&self) -> Db {
        let url = match &self.redis {
            Redis::Sentinel(sentinel, _) => sentinel.url(),
            Redis::Node(_) | Redis::Cluster(_) => self.primary_url(),
        };
        Db::open(url, "redial").expect("the harness gives valid addresses")
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.redis {
            Redis::Node(_) => Kind::Node,
            Redis::Sentinel(..) => Kind::Sentinel,
            Redis::Cluster(_) => Kind::Cluster,
        }
    }

    /// Whether acknowledged writes may be lost: replication is asynchronous.
    pub(crate) fn is_lossy(&self) -> bool {
        matches!(self.redis, Redis::Sentinel(..))
    }

    /// The servers that commands may be sent to now.
    pub(crate) fn servers(&self) -> Vec<&RedisServer> {
        match &self.redis {
            Redis::Node(node) => vec![node],
            Redis::Sentinel(sentinel, _) if self.has_failed_over() => vec![sentinel.replica()],
            Redis::Sentinel(sentinel, _) => vec![sentinel.master()],
            Redis::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// The proxy in front of a server.
    pub(crate) fn link_of(&self, server: &RedisServer) -> Option<&Proxy> {
        let at = self.servers().iter().position(|found| found.port() == server.port())?;
        self.links.get(at)
    }

    /// Kills a server and starts it again.
    pub(crate) async fn crash(&self, server: &RedisServer, away: Duration) {
        server.kill9();
        tokio::time::sleep(away).await;
        server.restart().await;
        self.configure().await;
    }

    /// The queues whose keys are on this server.
    pub(crate) async fn queues_of(&self, server: &RedisServer) -> Vec<&'static str> {
        let Redis::Cluster(cluster) = &self.redis else { return QUEUES.to_vec() };
        let mut found = Vec::new();
        for queue in QUEUES {
            if cluster.node_of(&TestQueue::new(cluster, queue).key()).await.port() == server.port() {
                found.push(queue);
            }
        }
        found
    }

    /// Kills the master for good, and waits until its replica is one. Once, and only with a Sentinel.
    pub(crate) async fn fail_over(&self) {
        let Redis::Sentinel(sentinel, failed_over) = &self.redis else { return };
        sentinel.replica().cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
        failed_over.store(true, Ordering::Relaxed);
        sentinel.fail_over().await;
    }

    /// Whether the master was killed.
    pub(crate) fn has_failed_over(&self) -> bool {
        matches!(&self.redis, Redis::Sentinel(_, failed_over) if failed_over.load(Ordering::Relaxed))
    }

    /// Lets a random replica of the Cluster take its master's place, without loss.
    pub(crate) async fn promote_a_replica(&self, rng: &mut StdRng) {
        let Redis::Cluster(cluster) = &self.redis else { return };
        let masters: Vec<u16> = cluster.masters().await.iter().map(|node| node.port()).collect();
        let replicas: Vec<&RedisServer> =
            cluster.nodes().iter().filter(|node| !masters.contains(&node.port())).collect();
        if let Some(replica) = replicas.choose(rng) {
            replica.cli(&["CLUSTER", "FAILOVER"]).await;
        }
    }

    /// Moves the slot of a queue to a random master. Only on a Cluster.
    pub(crate) async fn move_slot_of(&self, queue: &str, rng: &mut StdRng) {
        let Redis::Cluster(cluster) = &self.redis else { return };
        let masters = cluster.masters().await;
        let Some(target) = masters.choose(rng) else { return };
        let key = TestQueue::new(cluster, queue).key();
        if cluster.node_of(&key).await.port() != target.port() {
            cluster.move_slot_of(&key, target).await;
        }
    }
}
