//! What Redial promises its users. Each promise is tested against real parts: redis-server processes, the worker binary that
//! ships, and an upstream over TCP. One file per group:
//!
//! - [`answers`]: from one push to a result; [`results`]: what a result looks like; [`times`]: delays and deadlines; [`deadlines`]: expiring on time
//! - [`waiting`]: waiting for results without polling
//! - [`good_answers`]: what a good answer is; [`wire_formats`]: answers in every form; [`uploads`]: forms and files; [`redirects`]
//! - [`queues`]: weights, and how a push wakes an idle worker; [`many_queues`]: hundreds of them on one worker; [`partitions`]: one that
//!   is spread over several hash slots, [`partitions_seen`]: as its users see it
//! - [`retries`]: when a call is repeated, and how often; [`faults`]: every way in which a call can break; [`http2`]: connections that
//!   many calls share; [`keep_alive`]: idle ones; [`names`]: how names become addresses; [`once`]: calls that must not be repeated
//! - [`outages`]: upstreams that are away for a while; [`in_flight`]: one that hangs leaves room for the others
//! - [`cache`], [`sharing`], [`idempotency`]: calls that are not made twice; [`tenants`]: those who do not trust each other
//! - [`limits`], [`limits_far`]: no more calls than the upstream allows; [`budgets`]: no more money than there is; [`limit_owners`]: who
//!   may define and move a limit; [`breaker`]: no calls while it is down
//! - [`schedules`]: tasks that are pushed by the clock
//! - [`callbacks`], [`chains`]: calls that follow a result
//! - [`streams`]: answers that are read while they arrive; [`streams_broken`]: those that break off
//! - [`events`]: what happens to tasks, for those who watch
//! - [`cancel`]: tasks that are cancelled
//! - [`bad_input`]: invalid tasks; [`hostile`]: tasks that are hard to parse; [`targets`]: addresses that must not be called
//! - [`acls`]: users of Redis, each with the least that works
//! - [`leases`]: what living workers keep, and what dead ones lose
//! - [`kills`], [`crashes`]: workers that die; [`redis_restarts`]: a Redis that dies; [`lost_replies`]: replies of Redis that never
//!   arrive; [`drain`]: workers that stop in order, [`shutdown`]: in time, whatever happens
//! - [`shortages`]: a machine that lacks descriptors; [`answer_memory`]: more answers at a time than there is memory for
//! - [`refused`]: what Redis refuses for good
//! - [`snapshot`]: where every task is at one instant
//! - [`connections`]: proxies and certificates of upstreams; [`oauth`]: access tokens; [`aws`]: signatures;
//!   [`reload`]: settings and secrets that change while a worker runs
//! - [`own_secrets`]: the worker's credentials, which upstreams may echo; [`pages`]: the worker's own endpoints
//! - [`embedded`], [`settings`]: starting without a Redis, and with invalid settings
//! - [`healthcheck`]: the health check for containers; [`readiness`]: saying what keeps a worker from getting things done
//! - [`redis_tls`]: Redis and Sentinel over TLS, with client certificates and logins
//! - [`cluster`]: a Redis Cluster, and a failover by Sentinel; [`cluster_nodes`]: one of its nodes hangs or dies

mod acls;
mod answer_memory;
mod answers;
mod aws;
mod bad_input;
mod breaker;
mod budgets;
mod cache;
mod callbacks;
mod cancel;
mod chains;
mod cluster;
mod cluster_nodes;
// Only debug builds of the worker have the hook that kills it; worker and tests are built with the same profile.
mod connections;
#[cfg(debug_assertions)]
mod crashes;
mod deadlines;
mod drain;
mod embedded;
mod events;
mod faults;
mod good_answers;
mod healthcheck;
mod hostile;
mod http2;
mod idempotency;
mod in_flight;
mod keep_alive;
mod kills;
mod leases;
mod limit_owners;
mod limits;
mod limits_far;
mod lost_replies;
mod many_queues;
mod names;
mod oauth;
mod once;
mod outages;
mod own_secrets;
mod pages;
mod partitions;
mod partitions_seen;
mod queues;
mod readiness;
mod redirects;
mod redis_restarts;
mod redis_tls;
mod refused;
mod reload;
mod results;
mod retries;
mod schedules;
mod settings;
mod sharing;
mod shortages;
mod shutdown;
mod snapshot;
mod streams;
mod streams_broken;
mod targets;
mod tenants;
mod times;
mod uploads;
mod waiting;
mod wire_formats;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use redial_tests::WorkerBuilder;
use redial_tests::stalls::now_ms;
use redial_tests::wait::within;
use redial_tests::{RedisServer, Reply, Request, TestQueue, Upstream, Worker};
use serde_json::{Value, json};

/// The timeout for what should happen at once. It is long, because a loaded machine breaks no promise.
const SOON: Duration = Duration::from_secs(30);

/// A Redis, the queue `default` on it, and an upstream to call.
struct Stage {
    redis: RedisServer,
    queue: TestQueue,
    upstream: Upstream,
}

impl Stage {
    /// With an upstream whose behaviour depends on the path.
    async fn unruly() -> Self {
        Self::on(Upstream::unruly().await).await
    }

    /// With an upstream that answers with `handler`.
    async fn answering(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(Upstream::start(handler).await).await
    }

    /// With an upstream that answers every call with 200 after this delay.
    async fn slow(delay: Duration) -> Self {
        Self::answering(move |_| Reply::ok().json(&json!({"ok": true})).after(delay)).await
    }

    async fn on(upstream: Upstream) -> Self {
        redial_tests::stalls::watch();
        let redis = RedisServer::start().await;
        let queue = TestQueue::new(&redis, "default");
        Self { redis, queue, upstream }
    }

    /// A worker that can be configured before it starts.
    fn worker(&self) -> WorkerBuilder {
        Worker::builder(&self.redis)
    }

    /// A worker that is ready: it claims at once what is pushed from now on.
    async fn ready_worker(&self) -> Worker {
        let worker = self.worker().spawn();
        worker.wait_ready().await;
        worker
    }

    /// Two workers, after four others were killed one after another while they were working.
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

    /// Pushes one task per id, all to the same path, with these additional fields.
    async fn push_many(&self, ids: &[String], path: &str, fields: &Value) {
        let tasks = ids.iter().map(|id| {
            let mut task = fields.clone();
            task["id"] = json!(id);
            task["url"] = json!(self.url(path));
            task.to_string()
        });
        self.queue.push_all(tasks).await;
    }

    /// Waits until at least this many calls are in flight.
    async fn wait_in_flight(&self, calls: usize) {
        let enough = || async { (self.upstream.in_flight() >= calls).then_some(()) };
        redial_tests::eventually(SOON, enough).await;
    }
}

/// The paths that have been called.
#[derive(Default)]
struct CalledPaths(Mutex<HashSet<String>>);

impl CalledPaths {
    /// Whether this is the first call to its path.
    fn is_first_call(&self, request: &Request) -> bool {
        let mut seen = self.0.lock().expect("no thread panics while it holds the paths");
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

/// How many attempts a result lists.
fn attempts(result: &Value) -> usize {
    result["attempts"].as_array().map_or(0, Vec::len)
}

/// How much a test does: `always` in every run, or `soaked` with `make soak`.
pub(crate) fn at_length<T>(always: T, soaked: T) -> T {
    if std::env::var_os("REDIAL_SOAK").is_some() { soaked } else { always }
}

/// A number in a result.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// A counter of a worker.
async fn counter(worker: &Worker, name: &str) -> u64 {
    // The sum of no samples is a negative zero.
    let value = worker.metric(name).await.abs().to_string();
    value.parse().expect("a counter is a whole number")
}

/// Waits until a worker's counter has this value. Workers count after Redis has confirmed, so a moment after everyone else can see
/// the result.
async fn assert_counted(worker: &Worker, name: &str, expected: u64) {
    let counted = || async { (counter(worker, name).await == expected).then_some(()) };
    if within(SOON, counted).await.is_none() {
        let found = counter(worker, name).await;
        panic!("{name} is {found} instead of {expected}");
    }
}
