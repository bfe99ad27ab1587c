//! The workers, and the promises that each of them keeps by itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use redial_tests::Worker;

use crate::topology::Kind;
use crate::world::World;

/// What the queues are worth to a worker.
const QUEUES: &str = "default=6,bulk=1,mail=2";
pub(crate) const LEASE_MS: u64 = 2_000;
const DRAIN_MS: u64 = 2_000;
/// A worker that was told to end must do so within its drain and this much more.
const EXIT_SLACK: Duration = Duration::from_secs(5);
/// What no log of a worker may hold.
const CRASHES: [&str; 3] = ["panicked at", "stack overflow", "SIGSEGV"];
/// How many file descriptors the first worker has, where hosts and nodes are few enough for it.
const DESCRIPTORS: usize = 256;

/// The workers, and what they did that they must not do.
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    url: String,
    certificate: PathBuf,
    has_few_descriptors: bool,
    pub(crate) violations: Vec<String>,
}

impl Fleet {
    pub(crate) fn start(world: &World, size: usize) -> Self {
        let mut fleet = Self {
            workers: Vec::new(),
            url: world.topology.worker_url(),
            certificate: world.upstreams.http2.certificate(),
            has_few_descriptors: world.topology.kind() == Kind::Node,
            violations: Vec::new(),
        };
        fleet.workers = (0..size).map(|at| fleet.spawn(at)).collect();
        fleet
    }

    pub(crate) fn size(&self) -> usize {
        self.workers.len()
    }

    fn spawn(&self, at: usize) -> Worker {
        let worker = Worker::builder(&self.url)
            .env("REDIAL_QUEUES", QUEUES)
            // One of them is refused by Redis.
            .env("REDIAL_REPLY_LISTS", "answers:*, private:*")
            .env("REDIAL_LEASE_MS", LEASE_MS.to_string())
            .env("REDIAL_DRAIN_MS", DRAIN_MS.to_string())
            .env("REDIAL_CONCURRENCY", "32")
            .env("SSL_CERT_FILE", self.certificate.to_string_lossy());
        if at == 0 && self.has_few_descriptors { worker.descriptor_limit(DESCRIPTORS) } else { worker }.spawn()
    }

    /// Puts a new worker in the place of this one, and looks at what the old one had to say.
    fn replace(&mut self, at: usize) -> Worker {
        let new = self.spawn(at);
        let old = std::mem::replace(&mut self.workers[at], new);
        self.examine(&old, old.is_running());
        old
    }

    fn examine(&mut self, worker: &Worker, is_running: bool) {
        let log = worker.log();
        if !is_running {
            self.violations.push(format!("a worker ended by itself; its log ends:\n{}", tail(&log)));
        }
        for line in log.lines().filter(|line| CRASHES.iter().any(|crash| line.contains(crash))).take(3) {
            self.violations.push(format!("a worker's log says: {line}"));
        }
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.replace(at).kill9();
    }

    pub(crate) async fn freeze(&mut self, at: usize, span: Duration) {
        self.workers[at].pause();
        tokio::time::sleep(span).await;
        self.workers[at].resume();
    }

    /// Tells a worker to end, and waits until it has.
    pub(crate) async fn terminate(&mut self, at: usize) {
        let worker = self.replace(at);
        if let Some(violation) = end(&worker).await {
            self.violations.push(violation);
        }
    }

    /// Every fault is over: a worker that does not run now has ended by itself.
    pub(crate) fn recover(&mut self) {
        for at in 0..self.workers.len() {
            if !self.workers[at].is_running() {
                self.replace(at);
            }
        }
    }

    /// Tells all workers to end.
    pub(crate) async fn end(&mut self) {
        for worker in std::mem::take(&mut self.workers) {
            self.examine(&worker, worker.is_running());
            self.violations.extend(end(&worker).await);
        }
    }
}

/// Tells it to end; says so if it does not.
async fn end(worker: &Worker) -> Option<String> {
    let started = Instant::now();
    worker.term();
    let limit = Duration::from_millis(DRAIN_MS) + EXIT_SLACK;
    while worker.is_running() {
        if started.elapsed() > limit {
            return Some(format!(
                "a worker still runs {limit:?} after SIGTERM; its log ends:\n{}",
                tail(&worker.log())
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
