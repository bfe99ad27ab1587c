//! The users of `deploy/acl/users.acl`, each the least that works.

use std::path::Path;
use std::time::Duration;

use redial_tests::cli::CommandOutput;
use redial_tests::{Cli, Cluster, RedisServer, Sentinel, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, answered, ids};

/// A Redis that has loaded the file as it is shipped, and a user for the test itself.
struct GuardedRedis {
    server: RedisServer,
    _folder: TempDir,
}

fn shipped_users() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/acl/users.acl")).unwrap()
}

async fn guarded() -> GuardedRedis {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    std::fs::write(&file, "user default on nopass ~* &* +@all\n").unwrap();
    let server = RedisServer::with_args(&["--aclfile", file.to_str().unwrap()]).await;
    std::fs::write(&file, format!("{}user test on >test-password ~* &* +@all\n", shipped_users())).unwrap();
    assert_eq!(server.cli(&["ACL", "LOAD"]).await, "OK");
    assert!(server.cli(&["PING"]).await.contains("NOAUTH"), "nobody is let in without a name");
    GuardedRedis { server, _folder: folder }
}

impl GuardedRedis {
    fn queue(&self) -> TestQueue {
        TestQueue::new(url(&self.server, "test"), "default")
    }

    /// What a command answers to a user.
    async fn ask(&self, user: &str, command: &[&str]) -> String {
        let password = format!("{user}-password");
        let login = ["--user", user, "--pass", &password, "--no-auth-warning"];
        self.server.cli(&[&login, command].concat()).await
    }
}

/// Adds the users of the file to a server that keeps its own.
async fn add_users(server: &RedisServer) {
    for line in shipped_users().lines().filter(|line| !line.contains("user default")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let set: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(words).collect();
        assert_eq!(server.cli(&set).await, "OK", "{line}");
    }
}

fn url(redis: &RedisServer, user: &str) -> String {
    format!("redis://{user}:{user}-password@127.0.0.1:{}", redis.port())
}

async fn run(redis: &GuardedRedis, user: &str, command: &[&str]) -> CommandOutput {
    Cli::new(url(&redis.server, user)).run(command).await
}

#[tokio::test]
async fn a_worker_needs_no_more_than_its_user_may_do() {
    let redis = guarded().await;
    let upstream = Upstream::unruly().await;
    let worker = Worker::builder(url(&redis.server, "worker")).env("REDIAL_QUEUES", "default,other").spawn();
    worker.wait_ready().await;
    let queue = redis.queue();
    let url_of = |path: &str| upstream.url(path);
    let mut tasks: Vec<Value> = Vec::new();
    for n in 0..30 {
        let mut task = match n % 10 {
            0 => json!({"url": url_of("/ok"), "reply_to": "answers:mine"}),
            1 => json!({"url": url_of("/ok"), "idempotency_key": "k"}),
            2 => json!({"url": url_of("/ok"), "cache_ttl_ms": 60_000}),
            3 => json!({"url": url_of("/ok"), "delay_ms": 200}),
            4 => json!({"url": url_of("/ok"), "limit": {"name": "l", "rate": 50, "burst": 1, "concurrency": 5}}),
            5 => json!({"url": url_of("/ok"), "stream": true}),
            6 => json!({"url": url_of("/ok"), "then": {"url": url_of("/ok")}}),
            7 => json!({"url": url_of("/ok"), "callback_url": url_of("/ok")}),
            8 => json!({"url": url_of("/ok"), "effect": "once"}),
            _ => json!({"url": "nowhere"}),
        };
        task["id"] = json!(format!("t{n}"));
        tasks.push(task);
    }
    queue.push_all(tasks.iter().map(Value::to_string)).await;
    queue.wait_results(&ids("t", 30), SOON).await;
    queue.wait_result("t7.callback", SOON).await;
    // A worker that ends gives its queues up, and another one takes over.
    worker.term();
    assert!(worker.wait_exit(SOON).await.success());
    let refusals = redis.ask("test", &["ACL", "LOG"]).await;
    assert!(!refusals.contains("worker"), "{refusals}");
}

#[tokio::test]
async fn a_producer_can_push_and_nothing_else() {
    let redis = guarded().await;
    let upstream = Upstream::unruly().await;
    let pushed = run(&redis, "producer", &["enqueue", "--url", &upstream.url("/ok")]).await;
    assert_eq!(pushed.status, 0, "{pushed:?}");
    let _worker = Worker::spawn(url(&redis.server, "worker"));
    let queue = redis.queue();
    assert_eq!(answered(&[queue.wait_result(pushed.stdout.trim(), SOON).await]), 1);
    for command in [
        &["result", "a"][..],
        &["dead", "list"],
        &["cancel", "a"],
        &["pause", "default"],
        &["limits", "set", "l", "--rate", "1"],
        &["cache", "drop", r#"{"url":"http://h/"}"#],
    ] {
        let refused = run(&redis, "producer", command).await;
        assert!(refused.status == 1 && refused.stderr.contains("permission"), "{command:?}: {refused:?}");
    }
    refused(
        &redis,
        "producer",
        &[
            "LPUSH redial:{default}:handoff x",
            "LPUSH redial:{default}:dead x",
            "LRANGE redial:{default} 0 -1",
            "RPOP redial:{default}",
            "DEL redial:{default}",
            "SET redial:{default}:result:a x",
            "HSET redial:{default}:stored a x",
            "ZADD redial:{default}:scheduled 0 a",
            "LPUSH answers:mine x",
            "EVAL return 0",
            "FLUSHALL",
            "CONFIG GET *",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_waiter_and_a_reader_change_nothing_of_redials() {
    let redis = guarded().await;
    let upstream = Upstream::unruly().await;
    let _worker = Worker::spawn(url(&redis.server, "worker"));
    let queue = redis.queue();
    queue.push(json!({"id": "a", "url": upstream.url("/ok"), "reply_to": "answers:mine"}).to_string()).await;
    queue.push(json!({"id": "b", "url": "nowhere"}).to_string()).await;
    queue.wait_results(&["a".to_owned(), "b".to_owned()], SOON).await;
    let asked = redis.ask("waiter", &["BRPOP", "answers:mine", "10"]);
    assert!(asked.await.contains("\"id\":\"a\""));
    let common = [
        "LPUSH redial:{default} x",
        "SET redial:{default}:result:a x",
        "DEL redial:{default}:dead",
        "ZADD redial:{default}:dead 0 x",
        "EVAL return 0",
        "FLUSHALL",
        "KEYS *",
    ];
    refused(&redis, "waiter", &common).await;
    refused(&redis, "waiter", &["LRANGE redial:{default} 0 -1", "ZRANGE redial:{default}:dead 0 -1"]).await;
    refused(&redis, "reader", &common).await;
    for (command, shows) in [
        (&["result", "a"][..], "\"a\""),
        (&["queues"], "default"),
        (&["batch", "list"], ""),
        (&["dead", "list"], "b"),
        (&["dead", "show", "b"], "nowhere"),
        (&["list", "waiting"], ""),
    ] {
        let shown = run(&redis, "reader", command).await;
        assert!(shown.status == 0 && shown.stdout.contains(shows), "{command:?}: {shown:?}");
    }
    for command in [&["pause", "default"][..], &["dead", "drop", "b"], &["dead", "replay", "b"], &["cancel", "a"]] {
        let refused = run(&redis, "reader", command).await;
        assert!(refused.status == 1 && refused.stderr.contains("permission"), "{command:?}: {refused:?}");
    }
}

#[tokio::test]
async fn an_operator_can_do_what_the_command_line_does_and_not_administer_redis() {
    let redis = guarded().await;
    let upstream = Upstream::unruly().await;
    let queue = redis.queue();
    queue.push(json!({"id": "a", "url": upstream.url("/ok"), "delay_ms": 60_000}).to_string()).await;
    for command in [
        &["status", "a"][..],
        &["cancel", "a"],
        &["pause", "default"],
        &["resume", "default"],
        &["dead", "replay", "a"],
        &["limits", "set", "l", "--rate", "1"],
        &["limits"],
        &["limits", "unset", "l"],
        &["breakers"],
        &["queues"],
        &["workers"],
        &["top", "--once"],
        &["batch", "list"],
        &["schedule", "add", "s", "0 3 * * *", r#"{"url":"http://h/"}"#],
        &["schedule", "remove", "s"],
    ] {
        let done = run(&redis, "operator", command).await;
        assert_eq!(done.status, 0, "{command:?}: {done:?}");
    }
    let nobody_needs = ["SCRIPT FLUSH", "FUNCTION FLUSH", "FUNCTION LOAD x", "SCRIPT KILL", "FCALL f 0"];
    refused(&redis, "operator", &nobody_needs).await;
    refused(&redis, "worker", &nobody_needs).await;
    refused(&redis, "worker", &["FLUSHALL", "CONFIG GET *", "KEYS *", "SET mine x", "ACL LIST"]).await;
    refused(&redis, "operator", &["FLUSHALL", "CONFIG GET *", "SHUTDOWN", "KEYS *", "SET mine x", "ACL LIST"]).await;
}

#[tokio::test]
async fn every_user_works_with_a_cluster_and_a_missing_permission_is_named() {
    let cluster = Cluster::start(3).await;
    for node in cluster.nodes() {
        add_users(node).await;
    }
    let url_of = |user: &str| cluster.url().replace("://", &format!("://{user}:{user}-password@"));
    everybody_works(&url_of).await;
    for node in cluster.nodes() {
        assert_eq!(node.cli(&["ACL", "SETUSER", "producer", "-cluster"]).await, "OK");
    }
    let refused = Cli::new(url_of("producer")).run(&["enqueue", "--url", "http://127.0.0.1:9/"]).await;
    assert!(refused.status == 1 && refused.stderr.contains("cluster|slots"), "{refused:?}");
}

#[tokio::test]
async fn every_user_works_behind_a_sentinel() {
    let sentinel = Sentinel::start().await;
    for server in [sentinel.master(), sentinel.replica()] {
        add_users(server).await;
    }
    everybody_works(&|user| sentinel.url().replace("://", &format!("://{user}:{user}-password@"))).await;
}

/// A producer pushes, a worker works, and the others read and operate.
async fn everybody_works(url_of: &impl Fn(&str) -> String) {
    let upstream = Upstream::unruly().await;
    let _worker = Worker::spawn(url_of("worker"));
    let pushed = Cli::new(url_of("producer")).run(&["enqueue", "--url", &upstream.url("/ok")]).await;
    assert_eq!(pushed.status, 0, "{pushed:?}");
    let id = pushed.stdout.trim();
    let result = || async {
        let result = Cli::new(url_of("waiter")).run(&["result", id]).await;
        assert!(!result.stderr.contains("NOPERM"), "{result:?}");
        (result.status == 0 && result.stdout.contains("\"ok\"")).then_some(())
    };
    eventually(SOON, result).await;
    for (user, command) in [("reader", &["dead", "list"][..]), ("operator", &["limits", "set", "l", "--rate", "1"])] {
        let done = Cli::new(url_of(user)).run(command).await;
        assert_eq!(done.status, 0, "{user}: {done:?}");
    }
}

/// That Redis refuses these commands of a user.
async fn refused(redis: &GuardedRedis, user: &str, commands: &[&str]) {
    for command in commands {
        let mut words: Vec<&str> = command.split(' ').collect();
        if let Some(script) = command.strip_prefix("EVAL ") {
            words = vec!["EVAL", script, "0"];
        }
        let answer = tokio::time::timeout(Duration::from_secs(10), redis.ask(user, &words)).await.unwrap();
        assert!(answer.contains("NOPERM"), "{user}: {command}: {answer}");
    }
}
