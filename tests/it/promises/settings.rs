//! Invalid settings are reported clearly, before anything is touched, and without printing secrets.

use std::path::Path;
use std::time::Duration;

use redial_tests::{RedisServer, Worker, WorkerBuilder, eventually};

use super::SOON;

/// The log of a worker that cannot start.
async fn startup_error(worker: WorkerBuilder) -> String {
    let worker = worker.spawn();
    let status = worker.wait_exit(Duration::from_secs(20)).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {}", worker.log());
    worker.log()
}

fn nowhere() -> WorkerBuilder {
    Worker::builder("redis://127.0.0.1:1")
}

fn with_file(folder: &Path, text: &str) -> WorkerBuilder {
    let path = folder.join("redial.toml");
    std::fs::write(&path, text).unwrap();
    nowhere().arg("--config").arg(path.to_str().unwrap())
}

#[tokio::test]
async fn an_invalid_setting_is_named_with_a_fix() {
    for (name, value, expected) in [
        ("REDIAL_CONCURRENCY", "0", "concurrency is 0"),
        ("REDIAL_CONCURRENCY", "many", "concurrency"),
        ("REDIAL_QUEUES", "a b", "queues holds \"a b\""),
        ("REDIAL_LEASE_MS", "10", "lease_ms is 10"),
        ("REDIAL_METRICS_ADDR", "nowhere", "metrics_addr is \"nowhere\""),
        ("REDIAL_ALLOW_PRIVATE", "10.0.0.0/99", "allow_private holds"),
        ("REDIAL_LOG_FORMAT", "xml", "log_format"),
        ("REDIAL_PREFIX", "a{b", "prefix is"),
        ("RUST_LOG", "redial=[", "RUST_LOG"),
    ] {
        let log = startup_error(nowhere().env(name, value)).await;
        assert!(log.contains(expected), "{name}={value}: {log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[tokio::test]
async fn an_unknown_config_key_is_an_error_and_a_misspelt_variable_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let log = startup_error(with_file(folder.path(), "concurency = 5\n")).await;
    assert!(log.contains("concurency"), "{log}");
    let log = startup_error(with_file(folder.path(), "concurrency = \n")).await;
    assert!(log.contains("settings can't be read"), "{log}");
    let log = startup_error(nowhere().arg("--config").arg("/no/such/file.toml")).await;
    assert!(log.contains("/no/such/file"), "{log}");

    let worker = nowhere().env("REDIAL_CONCURENCY", "5").spawn();
    let warned = || async { worker.log().contains("REDIAL_CONCURENCY").then_some(()) };
    eventually(SOON, warned).await;
}

#[tokio::test]
async fn the_environment_overrides_the_file_and_the_file_overrides_the_defaults() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redial.toml");
    std::fs::write(&path, "concurrency = 7\nqueues = \"file=1\"\n").unwrap();
    let worker = Worker::builder(&redis)
        .env("REDIAL_CONFIG", path.to_str().unwrap())
        .env("REDIAL_QUEUES", "environment=2")
        .spawn();
    worker.wait_ready().await;
    let log = worker.log();
    assert!(log.contains("concurrency=7") && log.contains("environment=2"), "{log}");
    assert!(!log.contains("WARN"), "every variable is recognised: {log}");
}

#[tokio::test]
async fn an_invalid_redis_url_is_rejected_without_printing_its_password() {
    for url in [
        "redis://:geheim@:notaport",
        "redis://user:geheim@host:99999",
        "http://:geheim@host",
        "redis-foo://:geheim@host:1",
        "redis-sentinel://:geheim@host:1",
        "redis-cluster://user:geheim@:x,b:1",
        ":geheim@host:6379",
    ] {
        let log = startup_error(Worker::builder(url)).await;
        assert!(log.contains("REDIS_URL"), "{url}: {log}");
        assert!(!log.contains("geheim"), "{url}: {log}");
    }
}

#[tokio::test]
async fn the_redis_password_never_appears_in_the_workers_log() {
    let redis = RedisServer::start().await;
    redis.cli(&["CONFIG", "SET", "requirepass", "geheim"]).await;
    let url = format!("redis://:geheim@127.0.0.1:{}", redis.port());
    let good = Worker::builder(&url).env("RUST_LOG", "debug").spawn();
    good.wait_ready().await;
    let wrong = Worker::builder(url.replace("geheim", "geheimer")).spawn();
    let refused = || async { wrong.log().contains("Redis does not answer").then_some(()) };
    eventually(SOON, refused).await;
    assert_eq!(wrong.get("/readyz").await.0, 503);
    for worker in [good, wrong] {
        assert!(!worker.log().contains("geheim"), "{}", worker.log());
    }
}

#[tokio::test]
async fn a_metrics_address_already_in_use_is_a_clear_error() {
    let redis = RedisServer::start().await;
    let taken = format!("127.0.0.1:{}", redis.port());
    let log = startup_error(Worker::builder(&redis).env("REDIAL_METRICS_ADDR", taken)).await;
    assert!(log.contains("REDIAL_METRICS_ADDR"), "{log}");
}
