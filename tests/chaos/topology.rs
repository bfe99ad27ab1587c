//! The Redis under the fleet: one node, a master and its replica under a Sentinel, or a Cluster.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use redial_core::Db;
use redial_tests::{Cluster, RedisServer, Sentinel, TestQueue};

use crate::QUEUES;

/// The nodes of the Cluster.
const CLUSTER_SIZE: usize = 3;

/// Which Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One node with an append-only file that is synced at every write.
    Node,
    /// A master that acknowledges only what its replica has, and a Sentinel that fails over.
    Sentinel,
    /// A Cluster of three masters whose slots move.
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

/// A running Redis of one of these kinds.
pub(crate) enum Topology {
    Node(RedisServer),
    /// And whether its master was killed.
    Sentinel(Box<Sentinel>, AtomicBool),
    Cluster(Cluster),
}

impl Topology {
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Node => Self::Node(RedisServer::with_args(&["--appendfsync", "always"]).await),
            Kind::Sentinel => {
                let sentinel = Sentinel::start().await;
                sentinel.master().cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
                Self::Sentinel(Box::new(sentinel), AtomicBool::new(false))
            }
            Kind::Cluster => Self::Cluster(Cluster::start(CLUSTER_SIZE).await),
        }
    }

    /// The address for workers.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Node(node) => node.url(),
            Self::Sentinel(sentinel, _) => sentinel.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The address of what takes writes now, for raw commands.
    pub(crate) fn primary_url(&self) -> &str {
        match self {
            Self::Sentinel(sentinel, failed_over) if failed_over.load(Ordering::Relaxed) => sentinel.replica().url(),
            Self::Sentinel(sentinel, _) => sentinel.master().url(),
            Self::Node(_) | Self::Cluster(_) => self.url(),
        }
    }

    /// Kills the master for good, and waits until its replica is one. Once, and only with a Sentinel.
    pub(crate) async fn fail_over(&self) {
        let Self::Sentinel(sentinel, failed_over) = self else { return };
        sentinel.replica().cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
        failed_over.store(true, Ordering::Relaxed);
        sentinel.fail_over().await;
    }

    /// Whether the master was killed.
    pub(crate) fn has_failed_over(&self) -> bool {
        matches!(self, Self::Sentinel(_, failed_over) if failed_over.load(Ordering::Relaxed))
    }

    /// A handle as producers have it.
    pub(crate) fn db(&self) -> Db {
        Db::open(self.url(), "redial").expect("the harness gives valid addresses")
    }

    /// The servers that commands may be sent to now.
    pub(crate) fn servers(&self) -> Vec<&RedisServer> {
        match self {
            Self::Node(node) => vec![node],
            Self::Sentinel(sentinel, _) if self.has_failed_over() => vec![sentinel.replica()],
            Self::Sentinel(sentinel, _) => vec![sentinel.master()],
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// Moves the slot of a random queue to a random node. Only on a Cluster.
    pub(crate) async fn move_a_slot(&self, rng: &mut StdRng) -> bool {
        let Self::Cluster(cluster) = self else { return false };
        let (Some(queue), Some(node)) = (QUEUES.choose(rng), cluster.nodes().choose(rng)) else { return false };
        let key = TestQueue::new(self.url(), queue).key();
        if cluster.node_of(&key).await.port() == node.port() {
            return false;
        }
        cluster.move_slot_of(&key, node).await;
        true
    }
}
