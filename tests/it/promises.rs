//! What Redial promises its users, each promise on real parts: redis-server processes, the worker that ships, an upstream
//! over TCP. A file a group:
//!
//! - [`answers`]: from one push to an answer; [`results`]: what it looks like; [`times`]: not before, not after
//! - [`queues`]: weights, and an idle worker's waking
//! - [`retries`]: when and how often again; [`faults`]: every way in which a call breaks; [`once`]: what is never repeated
//! - [`cache`], [`sharing`], [`idempotency`]: what is not called twice
//! - [`limits`]: not more than the upstream allows; [`breaker`]: none while it is down
//! - [`schedules`]: what is pushed by the clock
//! - [`callbacks`], [`chains`]: what follows on a result
//! - [`cancel`]: what is ended before its answer
//! - [`bad_input`]: what is no task; [`targets`]: what may not be called
//! - [`kills`], [`crashes`]: workers that die; [`redis_restarts`]: Redis that dies; [`lost_replies`]: answers of Redis that
//!   never came; [`drain`]: workers that are told to end
//! - [`embedded`], [`settings`]: starting without a Redis, and with wrong settings
//! - [`healthcheck`]: what a container asks a worker
//! - [`cluster`]: the same on a Cluster, and through a Sentinel's failover

mod answers;
mod bad_input;
mod breaker;
mod cache;
mod callbacks;
mod cancel;
mod chains;
mod cluster;
// The hook that kills a worker is in debug builds alone, and worker and tests are of one profile.
#[cfg(debug_assertions)]
mod crashes;
mod drain;
mod embedded;
mod faults;
mod healthcheck;
mod idempotency;
mod kills;
mod limits;
mod lost_replies;
mod once;
mod queues;
mod redis_restarts;
mod results;
mod retries;
mod schedules;
mod settings;
mod sharing;
mod snapshot;
mod targets;
mod times;
mod waiting;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use redial_tests::WorkerBuilder;
use redial_tests::stalls::now_ms;
use redial_tests::wait::within;
use redial_tests::{RedisServer, Reply, Request, TestQueue, Upstream, Worker};
use serde_json::{Value, json};

/// How long to wait for what comes at once: long, as a loaded machine breaks no promise.
const SOON: Duration = Duration::from_secs(30);

/// A Redis, the queue `default` on it, and an upstream to call.
struct Stage {
    redis: RedisServer,
    queue: TestQueue,
    upstream: Upstream,
}

impl Stage {
    /// With the upstream whose behaviour is chosen by the path.
    async fn unruly() -> Self {
        Self::on(Upstream::unruly().await).await
    }

    /// With an upstream that answers as `handler` says.
    async fn answering(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(Upstream::start(handler).await).await
    }

    /// With an upstream that answers every call with 200 after a while.
    async fn slow(delay: Duration) -> Self {
        Self::answering(move |_| Reply::ok().json(&json!({"ok": true})).after(delay)).await
    }

    async fn on(upstream: Upstream) -> Self {
        redial_tests::stalls::watch();
        let redis = RedisServer::start().await;
        let queue = TestQueue::new(&redis, "default");
        Self { redis, queue, upstream }
    }

    /// A worker, to be given more of an environment first.
    fn worker(&self) -> WorkerBuilder {
        Worker::builder(&self.redis)
    }

    /// A worker that has claimed: what is pushed from now on it takes at once.
    async fn ready_worker(&self) -> Worker {
        let worker = self.worker().spawn();
        worker.wait_ready().await;
        worker
    }

    /// Two workers, after four were killed one after the other in what they were doing.
    async fn workers_under_kills(&self) -> Vec<Worker> {
        let start = || self.worker().env("REDIAL_LEASE_MS", "1000").env("REDIAL_CONCURRENCY", "16").spawn();
        let mut workers = vec![start(), start()];
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            workers.remove(0).kill9();
            workers.push(start());
        }
        workers
    }

    /// The URL of a path at the upstream.
    fn url(&self, path: &str) -> String {
        self.upstream.url(path)
    }

    /// Pushes a task and waits for its result.
    async fn answer(&self, task: Value) -> Value {
        self.queue.push(task.to_string()).await;
        let id = task["id"].as_str().expect("a task of this test has an id");
        self.queue.wait_result(id, SOON).await
    }

    /// Pushes one task for each id, all to the same path, with these fields besides.
    async fn push_many(&self, ids: &[String], path: &str, more: &Value) {
        let tasks = ids.iter().map(|id| {
            let mut task = more.clone();
            task["id"] = json!(id);
            task["url"] = json!(self.url(path));
            task.to_string()
        });
        self.queue.push_all(tasks).await;
    }

    /// Waits until so many calls are being answered.
    async fn wait_in_flight(&self, calls: usize) {
        let enough = || async { (self.upstream.in_flight() >= calls).then_some(()) };
        redial_tests::eventually(SOON, enough).await;
    }
}

/// Which paths were called before.
#[derive(Default)]
struct CalledPaths(Mutex<HashSet<String>>);

impl CalledPaths {
    /// Whether this is the first call to its path.
    fn is_first_call(&self, request: &Request) -> bool {
        let mut seen = self.0.lock().expect("nothing panics while it looks");
        seen.insert(request.route().to_owned())
    }
}

/// `<prefix>0`, `<prefix>1`, ...
fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// How many of these results are `ok`.
fn answered(results: &[Value]) -> usize {
    let good = results.iter().filter(|result| result["status"] == "ok");
    good.count()
}

/// How many calls a result tells of.
fn attempts(result: &Value) -> usize {
    result["attempts"].as_array().map_or(0, Vec::len)
}

/// How long a promise is tried: in every run, or once in a while with `make soak`.
pub(crate) fn at_length<T>(always: T, soaked: T) -> T {
    if std::env::var_os("REDIAL_SOAK").is_some() { soaked } else { always }
}

/// A number in a result.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A counter of a worker.
async fn counter(worker: &Worker, name: &str) -> u64 {
    // The sum of no samples is a negative zero.
    let value = worker.metric(name).await.abs().to_string();
    value.parse().expect("a counter is a whole number")
}

/// Waits until a worker has counted so much: it counts what Redis has confirmed, a moment after everyone else can see it.
async fn assert_counted(worker: &Worker, name: &str, expected: u64) {
    let counted = || async { (counter(worker, name).await == expected).then_some(()) };
    if within(SOON, counted).await.is_none() {
        let found = counter(worker, name).await;
        panic!("{name} is {found} instead of {expected}");
    }
}
