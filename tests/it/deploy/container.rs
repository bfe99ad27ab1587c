//! Errors of programs that run in a container, which Kubernetes says by a variable.

use std::time::Duration;

use redial_tests::{Cli, Port, RedisServer, TestQueue, Worker, eventually};
use serde_json::json;

const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_call_to_localhost_in_a_container_is_refused_with_advice_for_one() {
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(&redis, "default");
    let _worker = Worker::builder(&redis).env(KUBERNETES, "10.96.0.1").env("REDIAL_ALLOW_PRIVATE", "").spawn();
    for (id, url, expected) in [
        ("loopback", "http://127.0.0.1:9/", "that is the container itself"),
        ("private", "http://10.0.0.1/", "in the environment of the worker's container"),
    ] {
        queue.push(&json!({"id": id, "url": url}).to_string()).await;
        let result = queue.wait_result(id, SOON).await;
        let error = result["error"].as_str().unwrap();
        assert!(error.contains(expected) && error.contains("REDIAL_ALLOW_PRIVATE"), "{error}");
    }
}

#[tokio::test]
async fn a_container_without_redis_url_is_told_to_set_it_and_not_to_install_a_server() {
    let port = Port::claim().number().to_string();
    let state = tempfile::tempdir().unwrap();
    for (folder, cause) in [(state.path().to_str().unwrap(), "is on the PATH"), ("/proc/none", "cannot use /proc/none")]
    {
        let worker = Worker::without_redis_url()
            .env(KUBERNETES, "10.96.0.1")
            .env("PATH", "/nonexistent")
            .env("REDIAL_EMBEDDED_PORT", &port)
            .env("REDIAL_STATE_DIR", folder)
            .spawn();
        assert!(!worker.wait_exit(SOON).await.success());
        let log = worker.log();
        assert!(log.contains("set REDIS_URL in the container's environment") && log.contains(cause), "{log}");
        assert!(!log.contains("apt-get"), "{log}");
    }
}

#[tokio::test]
async fn a_redis_at_localhost_that_a_container_cannot_reach_is_explained() {
    let port = Port::claim();
    let url = format!("redis://127.0.0.1:{}", port.number());
    let said = async |cli: Cli| cli.run(&["queues"]).await.stderr;
    let inside = said(Cli::new(&url).env(KUBERNETES, "10.96.0.1")).await;
    assert!(inside.contains("in a container, that is the container itself: set REDIS_URL"), "{inside}");
    if redial_core::container::is_inside() {
        return;
    }
    let outside = said(Cli::new(&url).env(KUBERNETES, "")).await;
    assert!(outside.contains("check REDIS_URL"), "{outside}");
}

#[tokio::test]
async fn a_gateway_that_only_its_container_reaches_says_so() {
    let (redis, port) = (RedisServer::start().await, Port::claim());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let listen = format!("127.0.0.1:{}", port.number());
    let mut gateway = tokio::process::Command::new(Cli::new(&redis).program())
        .args(["serve", "--listen", &listen])
        .env("REDIS_URL", redis.url())
        .env(KUBERNETES, "10.96.0.1")
        .stderr(std::fs::File::create(&log).unwrap())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let told = || async { std::fs::read_to_string(&log).unwrap().contains("only the container itself").then_some(()) };
    eventually(SOON, told).await;
    gateway.kill().await.unwrap();
}
