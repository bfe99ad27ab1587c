//! Without `REDIS_URL`, a worker starts its own Redis: shared by all workers of the machine, durable, and stopped with the last one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use redial_tests::{Port, RedisServer, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{SOON, answered, ids};

/// A machine without a Redis: a free port, a state folder and an upstream.
struct Machine {
    port: Port,
    state: TempDir,
    queue: TestQueue,
    upstream: Upstream,
}

impl Machine {
    async fn new() -> Self {
        let port = Port::claim();
        Self {
            queue: TestQueue::new(format!("redis://127.0.0.1:{}", port.number()), "default"),
            state: tempfile::tempdir().unwrap(),
            upstream: Upstream::unruly().await,
            port,
        }
    }

    fn worker(&self) -> Worker {
        let worker = Worker::without_redis_url().env("REDIAL_EMBEDDED_PORT", self.port.number().to_string());
        let worker = worker.env("REDIAL_STATE_DIR", self.state.path().to_str().unwrap());
        worker.env("REDIAL_LEASE_MS", "2000").spawn()
    }

    fn task(&self, id: &str, path: &str) -> Value {
        json!({"id": id, "url": self.upstream.url(path)})
    }

    async fn answer(&self, id: &str) {
        // Redis may still be starting.
        let task = self.task(id, "/ok").to_string();
        let pushed = || async { self.queue.try_push(&task).await.ok() };
        eventually(SOON, pushed).await;
        let result = self.queue.wait_result(id, SOON).await;
        assert_eq!(result["status"], "ok");
    }

    async fn wait_no_server(&self) {
        let port = self.port.number();
        let gone = || async { TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(()) };
        eventually(SOON, gone).await;
    }
}

async fn wait_log(worker: &Worker, expected: &str) {
    eventually(SOON, || async { worker.log().contains(expected).then_some(()) }).await;
}

const STARTED: &str = "started an embedded Redis";
const JOINED: &str = "joining the embedded Redis of another worker";
const FOUND: &str = "using the Redis that answers here";

#[tokio::test]
async fn the_first_worker_starts_a_redis_that_others_join_and_take_over() {
    let machine = Machine::new().await;
    let first = machine.worker();
    first.wait_ready().await;
    let second = machine.worker();
    second.wait_ready().await;
    assert!(first.log().contains(STARTED) && !first.log().contains(JOINED), "{}", first.log());
    assert!(second.log().contains(JOINED) && !second.log().contains(STARTED), "{}", second.log());
    machine.answer("a").await;
    let later = json!({"id": "later", "url": machine.upstream.url("/ok"), "delay_ms": 1_000});
    machine.queue.push(later.to_string()).await;

    first.term();
    assert_eq!(first.wait_exit(SOON).await.code(), Some(0), "{}", first.log());
    wait_log(&second, STARTED).await;
    assert_eq!(machine.queue.wait_result("later", SOON).await["status"], "ok");
    assert_eq!(machine.queue.result("a").await.unwrap()["status"], "ok", "the data is the same");
    machine.answer("b").await;
    second.wait_ready().await;

    second.term();
    assert_eq!(second.wait_exit(SOON).await.code(), Some(0), "{}", second.log());
    machine.wait_no_server().await;
}

#[tokio::test]
async fn workers_started_at_the_same_instant_share_one_redis_and_log_which() {
    let machine = Machine::new().await;
    let workers = [machine.worker(), machine.worker(), machine.worker()];
    for worker in &workers {
        worker.wait_ready().await;
    }
    let starts = workers.iter().filter(|worker| worker.log().contains(STARTED));
    assert_eq!(starts.count(), 1);
    for worker in &workers {
        let log = worker.log();
        assert!(log.contains(STARTED) || log.contains(JOINED), "{log}");
    }
    machine.answer("a").await;
}

#[tokio::test]
async fn a_killed_worker_takes_its_redis_down_and_the_next_worker_resumes() {
    let machine = Machine::new().await;
    let first = machine.worker();
    first.wait_ready().await;
    let second = machine.worker();
    second.wait_ready().await;
    let tasks = ids("t", 30);
    let path = "/slow/300";
    machine.queue.push_all(tasks.iter().map(|id| machine.task(id, path).to_string())).await;
    let some = || async { (machine.upstream.in_flight() > 5).then_some(()) };
    eventually(SOON, some).await;
    first.kill9();

    wait_log(&second, STARTED).await;
    let results = machine.queue.wait_results(&tasks, SOON).await;
    assert_eq!(answered(&results), 30);
    second.kill9();
    machine.wait_no_server().await;
}

#[tokio::test]
async fn a_worker_restarted_right_after_a_kill_gets_a_redis_again() {
    let machine = Machine::new().await;
    let mut worker = machine.worker();
    worker.wait_ready().await;
    for round in 0..4 {
        // The kernel signals its Redis to stop, which takes a moment.
        worker.kill9();
        worker = machine.worker();
        machine.answer(&format!("t{round}")).await;
        worker.wait_ready().await;
    }
}

#[tokio::test]
async fn data_in_the_embedded_redis_survives_a_restart() {
    let machine = Machine::new().await;
    let first = machine.worker();
    first.wait_ready().await;
    machine.answer("a").await;
    let later = json!({"id": "later", "url": machine.upstream.url("/ok"), "delay_ms": 1_500});
    machine.queue.push(later.to_string()).await;
    first.term();
    assert_eq!(first.wait_exit(SOON).await.code(), Some(0));
    machine.wait_no_server().await;

    let _second = machine.worker();
    assert_eq!(machine.queue.wait_result("later", SOON).await["status"], "ok");
    assert_eq!(machine.queue.result("a").await.unwrap()["status"], "ok");
}

#[tokio::test]
async fn a_redis_already_running_on_this_machine_is_used() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::unruly().await;
    let state = tempfile::tempdir().unwrap();
    let worker = Worker::without_redis_url()
        .env("REDIAL_EMBEDDED_PORT", redis.port().to_string())
        .env("REDIAL_STATE_DIR", state.path().to_str().unwrap())
        .spawn();
    worker.wait_ready().await;
    assert!(worker.log().contains(FOUND), "{}", worker.log());
    let queue = TestQueue::new(&redis, "default");
    queue.push(json!({"id": "a", "url": upstream.url("/ok")}).to_string()).await;
    assert_eq!(queue.wait_result("a", SOON).await["status"], "ok");
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0));
    assert_eq!(redis.cli(&["PING"]).await, "PONG", "it is not the worker's to end");
}

#[tokio::test]
async fn no_second_redis_is_started_beside_one_that_requires_a_password() {
    let redis = RedisServer::start().await;
    redis.cli(&["CONFIG", "SET", "requirepass", "geheim"]).await;
    let log = startup_error(&redis.port().to_string(), None).await;
    assert!(log.contains("wants a password") && log.contains("REDIS_URL"), "{log}");
}

/// The permissions of a file or folder.
fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_may_read_the_data_of_the_embedded_redis() {
    let machine = Machine::new().await;
    let folder = machine.state.path().join("redis");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let worker = machine.worker();
    worker.wait_ready().await;
    machine.answer("a").await;
    assert_eq!(mode(&folder), 0o700);
    let mut folders = vec![folder];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            files += 1;
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(files > 2, "lock, log and data");
}

#[tokio::test]
async fn a_link_in_place_of_the_lock_or_the_folder_is_not_followed() {
    let machine = Machine::new().await;
    let (folder, victim) = (machine.state.path().join("redis"), machine.state.path().join("victim"));
    std::fs::write(&victim, "precious").unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&victim, folder.join("lock")).unwrap();
    let refused = machine.worker();
    assert_eq!(refused.wait_exit(SOON).await.code(), Some(1), "{}", refused.log());
    assert!(refused.log().contains("it is a link") && refused.log().contains("REDIAL_STATE_DIR"), "{}", refused.log());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");

    std::fs::remove_dir_all(&folder).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    let refused = machine.worker();
    assert_eq!(refused.wait_exit(SOON).await.code(), Some(1), "{}", refused.log());
    assert!(refused.log().contains("but a link"), "{}", refused.log());
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_embedded_redis_with_a_password_is_shared_by_workers_and_commands_and_by_nobody_else() {
    let machine = Machine::new().await;
    let (port, state) = (machine.port.number().to_string(), machine.state.path().to_str().unwrap().to_owned());
    let start = || {
        let worker = Worker::without_redis_url().env("REDIAL_EMBEDDED_PORT", &port).env("REDIAL_STATE_DIR", &state);
        worker.env("REDIAL_EMBEDDED_PASSWORD", "true").env("RUST_LOG", "trace").spawn()
    };
    let workers = [start(), start()];
    for worker in &workers {
        worker.wait_ready().await;
    }
    let file = machine.state.path().join("redis/password");
    let password = std::fs::read_to_string(&file).unwrap();
    assert_eq!((mode(&file), password.len()), (0o600, 64));
    assert!(machine.queue.try_push("{}").await.is_err(), "nobody gets in without the password");

    let mut command = std::process::Command::new(redial_tests::Cli::new("").program());
    let task = machine.task("a", "/ok").to_string();
    command.env_clear().env("REDIAL_STATE_DIR", &state).env("REDIAL_EMBEDDED_PORT", &port).args([
        "enqueue",
        "--wait=30",
        &task,
    ]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("\"ok\""), "{stdout}{stderr}");

    let queue = TestQueue::new(format!("redis://:{password}@127.0.0.1:{port}"), "default");
    assert_eq!(queue.result("a").await.unwrap()["status"], "ok");
    for worker in &workers {
        assert!(!worker.log().contains(&password), "the password is in the log");
    }
    let arguments = std::process::Command::new("ps").args(["axww", "-o", "args"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&arguments.stdout).contains(&password), "everybody may read arguments");
    for worker in workers {
        worker.term();
        worker.wait_exit(SOON).await;
    }
    machine.wait_no_server().await;
    // A server without a password leaves none behind that commands would show.
    let open = machine.worker();
    open.wait_ready().await;
    machine.answer("b").await;
    assert!(!file.exists());
}

#[tokio::test]
async fn without_a_redis_binary_the_error_names_the_install_command() {
    let empty = tempfile::tempdir().unwrap();
    let port = Port::claim();
    let log = startup_error(&port.number().to_string(), Some(empty.path())).await;
    assert!(log.contains("apt-get install redis-server") && log.contains("REDIS_URL"), "{log}");
}

#[tokio::test]
async fn a_redis_that_fails_to_start_is_an_error_with_its_cause_not_a_hang() {
    let programs = tempfile::tempdir().unwrap();
    let broken = programs.path().join("redis-server");
    std::fs::write(&broken, "#!/bin/sh\nexit 3\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let port = Port::claim();
    let log = startup_error(&port.number().to_string(), Some(programs.path())).await;
    assert!(log.contains("did not start") && log.contains("exit status: 3"), "{log}");
}

/// The log of a worker that can neither find nor start a Redis.
async fn startup_error(port: &str, path: Option<&Path>) -> String {
    let state = tempfile::tempdir().unwrap();
    let mut worker = Worker::without_redis_url()
        .env("REDIAL_EMBEDDED_PORT", port)
        .env("REDIAL_STATE_DIR", state.path().to_str().unwrap());
    if let Some(path) = path {
        worker = worker.env("PATH", path.to_str().unwrap());
    }
    let worker = worker.spawn();
    let status = worker.wait_exit(Duration::from_secs(20)).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {}", worker.log());
    worker.log()
}
