//! A worker that gets nothing done says so: `/readyz` is red, with the reasons, and dangers of its Redis are logged at the start.

use std::time::Duration;

use redial_tests::{RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::json;

use super::{SOON, Stage, ids};

/// Waits until a worker is not ready, for this reason among others.
async fn unready(worker: &Worker, reason: &str) {
    let started = || async { worker.log().contains("ready to claim").then_some(()) };
    eventually(SOON, started).await;
    let says = || async {
        let (status, body) = worker.get("/readyz").await;
        (status == 503 && body.lines().any(|line| line.contains(reason))).then_some(())
    };
    eventually(SOON, says).await;
}

#[tokio::test]
async fn a_worker_whose_slots_are_all_stuck_is_not_ready_until_one_moves() {
    // Two hosts: in place of the slots that a single one holds, others would be lent.
    let (stage, other) = (Stage::answering(|_| Reply::hang()).await, Upstream::start(|_| Reply::hang()).await);
    let worker = stage.worker().env("REDIAL_CONCURRENCY", "2").spawn();
    worker.wait_ready().await;
    for (id, url) in [("t0", stage.url("/")), ("t1", other.url("/"))] {
        let task = json!({"id": id, "url": url, "timeout_ms": 14_000, "retry": {"max_attempts": 1}});
        stage.queue.push(task.to_string()).await;
    }
    eventually(SOON, || async { (stage.upstream.in_flight() + other.in_flight() == 2).then_some(()) }).await;
    assert_eq!(worker.get("/readyz").await.0, 200, "slots that have only just filled are no standstill");
    unready(&worker, "all slots are in use, and no task has left one for 1").await;
    stage.queue.wait_results(&ids("t", 2), SOON).await;
    worker.wait_ready().await;
}

#[tokio::test]
async fn a_worker_that_may_not_claim_from_one_of_its_queues_names_it_and_serves_the_others() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|_| Reply::ok()).await;
    let allow = |keys: &[&str]| {
        let rules = ["ACL", "SETUSER", "w", "reset", "on", ">p", "&*", "+@all"];
        let keys: Vec<String> = keys.iter().map(|key| format!("~{key}")).collect();
        rules.into_iter().map(str::to_owned).chain(keys).collect::<Vec<String>>()
    };
    redis.cli(&allow(&["redial:{good}*", "redial:queues", "redial:workers*", "redial:breaker*"])).await;
    let url = redis.url().replace("redis://", "redis://w:p@");
    let worker = Worker::builder(url).env("REDIAL_QUEUES", "good,bad").spawn();
    unready(&worker, "commands about bad have failed for").await;
    let (_, body) = worker.get("/readyz").await;
    assert!(!body.contains("about good"), "{body}");
    let good = TestQueue::new(&redis, "good");
    good.push(json!({"id": "a", "url": upstream.url("/")}).to_string()).await;
    assert_eq!(good.wait_result("a", SOON).await["status"], "ok");
    redis.cli(&allow(&["redial:*"])).await;
    worker.wait_ready().await;
}

#[tokio::test]
async fn a_worker_says_at_its_start_what_is_dangerous_about_its_redis() {
    let master = RedisServer::start().await;
    let port = master.port().to_string();
    let replica = RedisServer::with_args(&["--replicaof", "127.0.0.1", &port]).await;
    let evicting =
        RedisServer::with_args(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no"])
            .await;
    for (redis, expected) in [
        (&evicting, &["maxmemory-policy is allkeys-lru", "keeps no append-only file"][..]),
        (&replica, &["is a replica and refuses writes"][..]),
    ] {
        let worker = Worker::spawn(redis);
        let says = || async { expected.iter().all(|part| worker.log().contains(part)).then_some(()) };
        eventually(SOON, says).await;
    }
    let worker = Worker::spawn(&master);
    worker.wait_ready().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for danger in ["maxmemory-policy", "append-only", "replica"] {
        assert!(!worker.log().contains(danger), "{}", worker.log());
    }
}
