//! The users of `deploy/acl/users.acl`, each the least that works.

use std::path::Path;
use std::time::Duration;

use redial_tests::cli::CommandOutput;
use redial_tests::{Cli, RedisServer, TestQueue, Upstream, Worker};
use serde_json::{Value, json};

use super::{SOON, answered, ids};

/// A Redis with the users of the file, and one for the test itself.
async fn guarded() -> RedisServer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/acl/users.acl");
    let redis = RedisServer::start().await;
    for line in std::fs::read_to_string(file).unwrap().lines().filter(|line| !line.contains("user default")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let set: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(words).collect();
        assert_eq!(redis.cli(&set).await, "OK", "{line}");
    }
    redis
}

fn url(redis: &RedisServer, user: &str) -> String {
    format!("redis://{user}:{user}-password@127.0.0.1:{}", redis.port())
}

async fn run(redis: &RedisServer, user: &str, command: &[&str]) -> CommandOutput {
    Cli::new(url(redis, user)).run(command).await
}

#[tokio::test]
async fn a_worker_needs_no_more_than_its_user_may_do() {
    let redis = guarded().await;
    let upstream = Upstream::unruly().await;
    let worker = Worker::builder(url(&redis, "worker")).env("REDIAL_QUEUES", "default,other").spawn();
    worker.wait_ready().await;
    let queue = TestQueue::new(&redis, "default");
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
    let refusals = redis.cli(&["ACL", "LOG"]).await;
    assert!(!refusals.contains("worker"), "{refusals}");
}

#[tokio::test]
async fn a_producer_can_push_and_nothing_else() {
    let redis = guarded().await;
    let upstream = Upstream::unruly().await;
    let pushed = run(&redis, "producer", &["enqueue", "--url", &upstream.url("/ok")]).await;
    assert_eq!(pushed.status, 0, "{pushed:?}");
    let _worker = Worker::spawn(url(&redis, "worker"));
    let queue = TestQueue::new(&redis, "default");
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
    let _worker = Worker::spawn(url(&redis, "worker"));
    let queue = TestQueue::new(&redis, "default");
    queue.push(json!({"id": "a", "url": upstream.url("/ok"), "reply_to": "answers:mine"}).to_string()).await;
    queue.push(json!({"id": "b", "url": "nowhere"}).to_string()).await;
    queue.wait_results(&["a".to_owned(), "b".to_owned()], SOON).await;
    let asked = redis.cli(&[
        "--user",
        "waiter",
        "--pass",
        "waiter-password",
        "--no-auth-warning",
        "BRPOP",
        "answers:mine",
        "10",
    ]);
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
    let queue = TestQueue::new(&redis, "default");
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
        &["schedule", "add", "s", "0 3 * * *", r#"{"url":"http://h/"}"#],
        &["schedule", "remove", "s"],
    ] {
        let done = run(&redis, "operator", command).await;
        assert_eq!(done.status, 0, "{command:?}: {done:?}");
    }
    refused(&redis, "operator", &["FLUSHALL", "CONFIG GET *", "SHUTDOWN", "KEYS *", "SET mine x", "ACL LIST"]).await;
}

/// That Redis refuses these commands of a user.
async fn refused(redis: &RedisServer, user: &str, commands: &[&str]) {
    for command in commands {
        let login = ["--user", user, "--pass", &format!("{user}-password"), "--no-auth-warning"].map(str::to_owned);
        let words = command.split(' ').map(str::to_owned);
        let mut words: Vec<String> = login.into_iter().chain(words).collect();
        if command.starts_with("EVAL ") {
            let script = words.split_off(6).join(" ");
            words.extend([script, "0".to_owned()]);
        }
        let answer = tokio::time::timeout(Duration::from_secs(10), redis.cli(&words)).await.unwrap();
        assert!(answer.contains("NOPERM"), "{user}: {command}: {answer}");
    }
}
