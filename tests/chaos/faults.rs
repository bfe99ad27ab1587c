//! The fleet, and what happens to it and to its Redis.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use redial_tests::{RedisServer, Worker};

use crate::QUEUES;
use crate::topology::Topology;

const LEASE_MS: &str = "2000";
const DRAIN_MS: &str = "2000";
/// A worker that was told to end must do so within its drain and this much more.
const EXIT_SLACK: Duration = Duration::from_secs(5);
/// The memory limit of a Redis that is full, in bytes.
const FULL: &str = "100kb";

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillWorker,
    FreezeWorker,
    TerminateWorker,
    KillRedis,
    FreezeRedis,
    ForgetScripts,
    CutConnections,
    FillMemory,
    MoveSlot,
    FailOver,
}

/// Each as often as it stands here.
const ON_A_NODE: [Fault; 12] = [
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::FreezeWorker,
    Fault::FreezeWorker,
    Fault::TerminateWorker,
    Fault::TerminateWorker,
    Fault::KillRedis,
    Fault::FreezeRedis,
    Fault::ForgetScripts,
    Fault::CutConnections,
    Fault::FillMemory,
];

/// The workers, and what was done to them.
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    /// How often each fault was injected.
    pub(crate) faults: BTreeMap<String, usize>,
    pub(crate) violations: Vec<String>,
}

impl Fleet {
    pub(crate) fn start(topology: &Topology, size: usize) -> Self {
        let workers = (0..size).map(|_| spawn(topology)).collect();
        Self { workers, faults: BTreeMap::new(), violations: Vec::new() }
    }

    /// Injects a fault every few seconds for this long.
    pub(crate) async fn torment(&mut self, topology: &Topology, rng: &mut StdRng, span: Duration) {
        let start = Instant::now();
        while start.elapsed() < span {
            tokio::time::sleep(Duration::from_millis(rng.random_range(500..3_000))).await;
            let fault = Self::choose(topology, rng, start.elapsed() > span / 2);
            *self.faults.entry(format!("{fault:?}")).or_default() += 1;
            self.inject(topology, rng, fault).await;
        }
    }

    fn choose(topology: &Topology, rng: &mut StdRng, is_second_half: bool) -> Fault {
        let drawn = *ON_A_NODE.choose(rng).expect("there are faults");
        match topology {
            Topology::Node(_) => drawn,
            Topology::Sentinel(..) if is_second_half && !topology.has_failed_over() => Fault::FailOver,
            // A master that is down or full is for the Sentinel to judge: it is killed once, for good.
            Topology::Sentinel(..) => match drawn {
                Fault::KillRedis | Fault::FreezeRedis | Fault::FillMemory => Fault::KillWorker,
                other => other,
            },
            Topology::Cluster(_) => match drawn {
                Fault::FillMemory => Fault::MoveSlot,
                other => other,
            },
        }
    }

    async fn inject(&mut self, topology: &Topology, rng: &mut StdRng, fault: Fault) {
        let at = rng.random_range(0..self.workers.len());
        let span = Duration::from_millis(rng.random_range(300..4_000));
        let servers = topology.servers();
        let server = *servers.choose(rng).expect("there are servers");
        match fault {
            Fault::KillWorker => {
                self.workers[at].kill9();
                self.workers[at] = spawn(topology);
            }
            Fault::FreezeWorker => {
                self.workers[at].pause();
                tokio::time::sleep(span).await;
                self.workers[at].resume();
            }
            Fault::TerminateWorker => self.terminate(topology, at).await,
            Fault::KillRedis => {
                server.kill9();
                tokio::time::sleep(span / 2).await;
                server.restart().await;
            }
            Fault::FreezeRedis => {
                server.pause();
                tokio::time::sleep(span).await;
                server.resume();
            }
            Fault::ForgetScripts => send(server, &["SCRIPT", "FLUSH"]).await,
            Fault::CutConnections => send(server, &["CLIENT", "KILL", "TYPE", "normal"]).await,
            Fault::FillMemory => {
                send(server, &["CONFIG", "SET", "maxmemory", FULL]).await;
                tokio::time::sleep(span).await;
                send(server, &["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            Fault::MoveSlot => {
                topology.move_a_slot(rng).await;
            }
            Fault::FailOver => topology.fail_over().await,
        }
    }

    async fn terminate(&mut self, topology: &Topology, at: usize) {
        let worker = std::mem::replace(&mut self.workers[at], spawn(topology));
        let started = Instant::now();
        worker.term();
        let drain = Duration::from_millis(DRAIN_MS.parse().expect("a number"));
        while worker.is_running() && started.elapsed() < drain + EXIT_SLACK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if worker.is_running() {
            self.violations.push(format!("a worker still runs {:?} after SIGTERM", started.elapsed()));
        }
    }

    /// Every fault is over: a worker that does not run now has ended by itself.
    pub(crate) fn recover(&mut self, topology: &Topology) {
        for worker in &mut self.workers {
            if !worker.is_running() {
                self.violations.push(format!("a worker ended by itself; its log ends:\n{}", tail(&worker.log())));
                *worker = spawn(topology);
            }
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn spawn(topology: &Topology) -> Worker {
    let queues: Vec<String> = QUEUES.iter().map(|queue| format!("{queue}=1")).collect();
    Worker::builder(topology.url())
        .env("REDIAL_QUEUES", queues.join(","))
        .env("REDIAL_LEASE_MS", LEASE_MS)
        .env("REDIAL_DRAIN_MS", DRAIN_MS)
        .env("REDIAL_CONCURRENCY", "32")
        .spawn()
}

/// Sends a command to one server, unless it does not answer.
async fn send(server: &RedisServer, command: &[&str]) {
    let Ok(client) = redis::Client::open(server.url()) else { return };
    let exchange = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).exec_async(&mut connection).await
    };
    // `CLIENT KILL` cuts its own connection as well: no answer is not a fault.
    let _ = tokio::time::timeout(Duration::from_secs(3), exchange).await;
}
