//! Whatever happens, a worker ends within its drain and five seconds of SIGTERM, and what it could not give back is taken from it.

use std::time::{Duration, Instant};

use redial_tests::{Proxy, RedisServer, Reply, TestQueue, Upstream, Worker, WorkerBuilder, eventually};
use serde_json::json;
use tokio::time::sleep;

use super::{SOON, Stage, answered, ids};

const DRAIN: Duration = Duration::from_secs(1);
/// Beyond the drain. The promise is 5 s; the rest is for a loaded machine to start and to reap processes.
const EXIT_SLACK: Duration = Duration::from_secs(7);

fn drains_in_a_second(worker: WorkerBuilder) -> WorkerBuilder {
    worker.env("REDIAL_DRAIN_MS", DRAIN.as_millis().to_string()).env("REDIAL_LEASE_MS", "2000")
}

async fn ends_in_time(worker: &Worker) {
    let signalled = Instant::now();
    worker.term();
    let status = worker.wait_exit(SOON).await;
    let took = signalled.elapsed();
    assert!(took < DRAIN + EXIT_SLACK, "{took:?}\n{}", worker.log());
    assert_eq!(status.code(), Some(0), "{}", worker.log());
}

#[tokio::test]
async fn a_worker_ends_in_time_while_redis_hangs_and_its_tasks_go_on() {
    let stage = Stage::slow(Duration::from_secs(2)).await;
    let worker = drains_in_a_second(stage.worker()).spawn();
    let ids = ids("t", 20);
    stage.push_many(&ids, "/", &json!({})).await;
    stage.wait_in_flight(20).await;
    stage.redis.pause();
    // Long enough for calls to finish and to wait for Redis with their results.
    sleep(Duration::from_secs(3)).await;
    ends_in_time(&worker).await;
    assert!(worker.log().contains("becomes available when its lease ends"), "{}", worker.log());
    stage.redis.resume();
    let _other = stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), 20);
}

#[tokio::test]
async fn a_worker_ends_in_time_when_redis_vanishes_under_an_idle_or_a_woken_one() {
    let stage = Stage::slow(Duration::ZERO).await;
    let queues = || drains_in_a_second(stage.worker()).env("REDIAL_QUEUES", "default,a,b,c");
    let (idle, woken) = (queues().spawn(), queues().env("REDIAL_CONCURRENCY", "1").spawn());
    idle.wait_ready().await;
    woken.wait_ready().await;
    for n in 0..20 {
        stage.queue.push(json!({"id": format!("t{n}"), "url": stage.url("/")}).to_string()).await;
    }
    stage.redis.kill9();
    tokio::join!(ends_in_time(&idle), ends_in_time(&woken));
}

#[tokio::test]
async fn a_worker_whose_upstream_never_answers_ends_in_time_and_gives_its_tasks_back() {
    let stage = Stage::answering(|_| Reply::hang()).await;
    let worker = drains_in_a_second(stage.worker()).env("REDIAL_CONCURRENCY", "8").spawn();
    let ids = ids("t", 30);
    stage.push_many(&ids, "/", &json!({"timeout_ms": 600_000})).await;
    stage.wait_in_flight(8).await;
    ends_in_time(&worker).await;
    assert_eq!(
        stage.redis.cli(&["ZCARD", "redial:{default}:scheduled"]).await,
        "8",
        "given back, not left to the lease"
    );
    assert_eq!(stage.redis.cli(&["ZCARD", "redial:{default}:workers"]).await, "0");
}

#[tokio::test]
async fn a_worker_of_many_queues_far_from_redis_ends_in_time_and_gives_everything_back() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|_| Reply::hang()).await;
    let proxy = Proxy::before(redis.port()).await;
    proxy.set_delay(Duration::from_millis(40));
    let names: Vec<String> = (0..150).map(|n| format!("q{n}")).collect();
    let worker = drains_in_a_second(Worker::builder(proxy.url())).env("REDIAL_QUEUES", names.join(",")).spawn();
    for name in &names {
        TestQueue::new(&redis, name).push(json!({"url": upstream.url("/"), "timeout_ms": 600_000}).to_string()).await;
    }
    let all_called = || async { (upstream.in_flight() == names.len()).then_some(()) };
    eventually(SOON, all_called).await;
    ends_in_time(&worker).await;
    assert!(worker.log().contains("drained"), "{}", worker.log());
    for name in &names {
        let key = |what: &str| format!("redial:{{{name}}}:{what}");
        assert_eq!(redis.cli(&["ZCARD", &key("scheduled")]).await, "1", "{name}");
        assert_eq!(redis.cli(&["ZCARD", &key("workers")]).await, "0", "{name}");
    }
}

#[tokio::test]
async fn a_worker_ends_in_time_while_its_connections_to_redis_are_dead() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|_| Reply::ok().after(Duration::from_secs(1))).await;
    let proxy = Proxy::before(redis.port()).await;
    let worker = drains_in_a_second(Worker::builder(proxy.url())).spawn();
    worker.wait_ready().await;
    let queue = TestQueue::new(&redis, "default");
    queue.push(json!({"id": "a", "url": upstream.url("/")}).to_string()).await;
    let called = || async { (upstream.in_flight() == 1).then_some(()) };
    eventually(SOON, called).await;
    proxy.set_silent(true);
    sleep(Duration::from_secs(2)).await;
    ends_in_time(&worker).await;
    let _other = Worker::builder(&redis).env("REDIAL_LEASE_MS", "2000").spawn();
    assert_eq!(queue.wait_result("a", SOON).await["status"], "ok");
}
