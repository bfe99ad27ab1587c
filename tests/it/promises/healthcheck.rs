//! `redial-worker --healthcheck` tells a container whether its worker is ready.

use redial_tests::{RedisServer, Worker, eventually};

use super::SOON;

/// Runs the health check against a metrics address. Returns its exit code and what it printed.
async fn check(metrics_addr: &str) -> (Option<i32>, String) {
    let check = Worker::without_redis_url().env("REDIAL_METRICS_ADDR", metrics_addr).arg("--healthcheck").spawn();
    let status = check.wait_exit(SOON).await;
    (status.code(), check.log())
}

/// The address that a worker logs when it serves its endpoints.
async fn address(worker: &Worker) -> String {
    let logged = || async {
        let log = worker.log();
        let (_, rest) = log.split_once("address=")?;
        let address = rest.split_whitespace().next()?;
        Some(address.to_owned())
    };
    eventually(SOON, logged).await
}

#[tokio::test]
async fn the_healthcheck_succeeds_while_the_worker_is_ready_and_reports_why_it_is_not() {
    let redis = RedisServer::start().await;
    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;
    let address = address(&worker).await;
    assert_eq!(check(&address).await, (Some(0), String::new()));

    redis.kill9();
    let unready = || async { (worker.get("/readyz").await.0 == 503).then_some(()) };
    eventually(SOON, unready).await;
    let (code, printed) = check(&address).await;
    assert!(code == Some(1) && printed.contains("commands about default have failed for"), "{printed}");
}

#[tokio::test]
async fn the_healthcheck_of_a_worker_that_listens_on_all_addresses_asks_on_loopback() {
    let redis = RedisServer::start().await;
    let worker = Worker::builder(&redis).env("REDIAL_METRICS_ADDR", "0.0.0.0:0").spawn();
    let address = address(&worker).await;
    assert!(address.starts_with("0.0.0.0:"), "{address}");
    let healthy = || async { (check(&address).await.0 == Some(0)).then_some(()) };
    eventually(SOON, healthy).await;
}

#[tokio::test]
async fn the_healthcheck_says_what_keeps_it_from_asking() {
    for (metrics_addr, says) in [
        ("", "metrics_addr is empty"),
        ("127.0.0.1:0", "port 0"),
        ("127.0.0.1:1", "is the worker running"),
        ("nowhere", "metrics_addr is \"nowhere\""),
    ] {
        let (code, printed) = check(metrics_addr).await;
        assert!(code == Some(1) && printed.contains(says), "{metrics_addr:?}: {printed}");
    }
}
