//! An upstream that hangs leaves room for the others, and none has more calls in flight than its block allows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redial_core::queue::Counts;
use redial_core::{Db, QueueName};
use redial_tests::{Cli, Reply, Upstream, Worker, WorkerBuilder, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, Stage, answered, counter, ids};

/// An upstream that hangs until it recovers.
struct HangingUpstream {
    stage: Stage,
    hangs: Arc<AtomicBool>,
}

impl HangingUpstream {
    async fn start() -> Self {
        let hangs = Arc::new(AtomicBool::new(true));
        let still = hangs.clone();
        let stage = Stage::answering(move |_| {
            if still.load(Ordering::Relaxed) { Reply::hang() } else { Reply::ok().json(&json!({"ok": true})) }
        })
        .await;
        Self { stage, hangs }
    }

    /// It answers from now on. Calls that it has kept waiting run into their timeouts.
    fn recover(&self) {
        self.hangs.store(false, Ordering::Relaxed);
    }

    fn worker(&self) -> WorkerBuilder {
        // No breaker helps: in real life the calls that hang may be those of one path only.
        self.stage.worker().env("REDIAL_CONCURRENCY", "64").env("REDIAL_BREAKER_CALLS", "0")
    }

    async fn push(&self, ids: &[String], timeout_ms: u64) {
        let fields = json!({"timeout_ms": timeout_ms, "retry": {"max_attempts": 20, "base_ms": 1, "cap_ms": 1}});
        self.stage.push_many(ids, "/", &fields).await;
    }

    async fn wait_parked(&self, tasks: u64) {
        eventually(SOON, || async { (self.counts().await.parked >= tasks).then_some(()) }).await;
    }

    async fn counts(&self) -> Counts {
        let db = Db::open(self.stage.redis.as_ref(), "redial").unwrap();
        db.queue(QueueName::new("default").unwrap()).counts().await.unwrap()
    }
}

/// How often a task was parked.
async fn times_parked(stage: &Stage) -> u64 {
    stage.redis.cli(&["HGET", "redial:{default}:stats", "parked"]).await.trim().parse().unwrap_or_default()
}

/// A worker whose settings file has these lines.
fn configured(worker: WorkerBuilder, folder: &TempDir, settings: &str) -> Worker {
    let file = folder.path().join("redial.toml");
    std::fs::write(&file, settings).unwrap();
    worker.arg("--config").arg(Path::to_str(&file).unwrap()).spawn()
}

async fn push_elsewhere(stage: &Stage, other: &Upstream, ids: &[String]) {
    let task = |id: &String| json!({"id": id, "url": other.url("/ok")}).to_string();
    stage.queue.push_all(ids.iter().map(task)).await;
}

#[tokio::test]
async fn tasks_behind_the_backlog_of_a_host_that_hangs_are_answered_within_seconds() {
    let (hanging, other) = (HangingUpstream::start().await, Upstream::unruly().await);
    let stage = &hanging.stage;
    let (stuck, others) = (ids("stuck", 2_000), ids("other", 200));
    hanging.push(&stuck, 60_000).await;
    push_elsewhere(stage, &other, &others).await;
    let worker = hanging.worker().spawn();
    // Within seconds, while the calls that hang have a minute.
    assert_eq!(answered(&stage.queue.wait_results(&others, Duration::from_secs(25)).await), 200);
    assert_eq!(stage.upstream.max_in_flight(), 64, "all slots were the first one's while nobody knew that it hangs");
    assert_eq!(hanging.counts().await.parked, 2_000 - 64);
    assert!(times_parked(stage).await <= 2_000, "each waits once");
    assert!(counter(&worker, r#"redial_held_back_total{reason="in_flight"}"#).await >= 1_900);
    let shown = Cli::new(&stage.redis).run(&["list", "parked"]).await.stdout;
    assert!(shown.contains("waits until fewer calls are in flight to http://127.0.0.1:"), "{shown}");
}

#[tokio::test]
async fn everything_is_answered_once_a_host_that_hung_answers_again() {
    let hanging = HangingUpstream::start().await;
    let stuck = ids("stuck", 300);
    hanging.push(&stuck, 3_000).await;
    let _workers = [hanging.worker().spawn(), hanging.worker().spawn()];
    hanging.wait_parked(100).await;
    hanging.recover();
    assert_eq!(answered(&hanging.stage.queue.wait_results(&stuck, 2 * SOON).await), 300);
}

#[tokio::test]
async fn what_waits_for_a_busy_host_outlives_the_worker_that_parked_it() {
    let hanging = HangingUpstream::start().await;
    let stuck = ids("stuck", 300);
    hanging.push(&stuck, 3_000).await;
    let worker = || hanging.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    let first = worker();
    hanging.wait_parked(100).await;
    first.kill9();
    hanging.recover();
    let _second = worker();
    assert_eq!(answered(&hanging.stage.queue.wait_results(&stuck, 2 * SOON).await), 300);
}

#[tokio::test]
async fn a_worker_drains_while_tasks_wait_for_a_busy_host_and_what_waits_can_be_cancelled_and_expires() {
    let hanging = HangingUpstream::start().await;
    let stage = &hanging.stage;
    hanging.push(&ids("stuck", 200), 60_000).await;
    let worker = hanging.worker().env("REDIAL_DRAIN_MS", "200").spawn();
    hanging.wait_parked(100).await;
    let late = json!({"id": "late", "url": stage.url("/"), "ttl_ms": 3_000}).to_string();
    stage.queue.push(late).await;
    assert_eq!(stage.queue.wait_result("late", SOON).await["reason"], "expired");
    let shown = Cli::new(&stage.redis).run(&["cancel", "stuck190"]).await.stdout;
    assert_eq!(stage.queue.wait_result("stuck190", SOON).await["reason"], "cancelled", "{shown}");
    worker.term();
    assert!(worker.wait_exit(SOON).await.success());
    let Counts { waiting, scheduled, parked, dead } = hanging.counts().await;
    assert_eq!((waiting + scheduled + parked, dead), (199, 2), "nothing is lost");
}

#[tokio::test]
async fn a_quick_upstream_has_as_many_calls_in_flight_as_there_are_slots() {
    let stage = Stage::slow(Duration::from_millis(100)).await;
    let all = ids("t", 600);
    stage.push_many(&all, "/", &json!({})).await;
    let _worker = stage.worker().env("REDIAL_CONCURRENCY", "64").spawn();
    assert_eq!(answered(&stage.queue.wait_results(&all, SOON).await), 600);
    assert_eq!(stage.upstream.max_in_flight(), 64);
    assert_eq!(times_parked(&stage).await, 0, "none was moved for it");
}

#[tokio::test]
async fn a_slow_upstream_alone_has_as_many_calls_in_flight_as_there_are_slots() {
    let stage = Stage::slow(Duration::from_millis(1_500)).await;
    let all = ids("t", 160);
    stage.push_many(&all, "/", &json!({})).await;
    let _worker = stage.worker().env("REDIAL_CONCURRENCY", "16").spawn();
    stage.wait_in_flight(16).await;
    assert_eq!(answered(&stage.queue.wait_results(&all, 2 * SOON).await), 160);
    assert_eq!(stage.upstream.max_in_flight(), 16, "what is lent is for others");
}

#[tokio::test]
async fn max_in_flight_is_never_exceeded_by_any_worker() {
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("[[upstream]]\nurl = \"{}\"\nmax_in_flight = 3\n", stage.url("/"));
    let (all, others) = (ids("t", 400), ids("o", 50));
    stage.push_many(&all, "/", &json!({})).await;
    let other = Upstream::unruly().await;
    push_elsewhere(&stage, &other, &others).await;
    let worker = || configured(stage.worker().env("REDIAL_CONCURRENCY", "32"), &folder, &settings);
    let _workers = [worker(), worker()];
    assert_eq!(answered(&stage.queue.wait_results(&others, SOON).await), 50);
    assert_eq!(answered(&stage.queue.wait_results(&all, SOON).await), 400);
    let most = stage.upstream.max_in_flight();
    assert!((3..=6).contains(&most), "{most} at a time by two workers");
}

#[tokio::test]
async fn a_limit_and_max_in_flight_together_answer_everything() {
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("[[upstream]]\nurl = \"{}\"\nmax_in_flight = 2\n", stage.url("/"));
    let all = ids("t", 150);
    let limit: Value = json!({"limit": {"name": "l", "rate": 60, "burst": 5}});
    stage.push_many(&all, "/", &limit).await;
    let _worker = configured(stage.worker().env("REDIAL_CONCURRENCY", "16"), &folder, &settings);
    assert_eq!(answered(&stage.queue.wait_results(&all, SOON).await), 150);
    assert!(stage.upstream.max_in_flight() <= 2);
    assert!(times_parked(&stage).await <= 450, "they do not go round in circles");
}
