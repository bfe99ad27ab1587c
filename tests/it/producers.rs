//! The producers in `examples/producers`. Each is run if this machine has its language and its Redis client.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use redial_tests::{RedisServer, Upstream, Worker};
use serde_json::Value;
use tokio::process::Command;

/// A file, the command that runs it, and one that succeeds if its Redis client is installed.
struct Example {
    file: &'static str,
    run: &'static [&'static str],
    check: &'static [&'static str],
}

const EXAMPLES: [Example; 7] = [
    Example { file: "producer.sh", run: &["sh"], check: &["redis-cli", "--version"] },
    Example { file: "producer.py", run: &["python3"], check: &["python3", "-c", "import redis"] },
    Example { file: "producer.js", run: &["node"], check: &["node", "-e", "require('redis')"] },
    Example { file: "producer.rb", run: &["ruby"], check: &["ruby", "-e", "require 'redis'"] },
    Example { file: "producer.php", run: &["php"], check: &["php", "-r", "exit(extension_loaded('redis') ? 0 : 1);"] },
    Example { file: "producer.go", run: &["go", "run"], check: &["go", "list", "github.com/redis/go-redis/v9"] },
    Example { file: "Producer.java", run: &["java"], check: &["javap", "redis.clients.jedis.JedisPooled"] },
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/producers")
}

/// Runs a command in the folder of the examples; `None` if the program is not installed.
async fn run(command_line: &[&str], redis: &RedisServer) -> Option<Output> {
    let mut command = Command::new(command_line[0]);
    command.args(&command_line[1..]).current_dir(folder()).env("REDIS_URL", redis.url()).stdin(Stdio::null());
    let ended = tokio::time::timeout(Duration::from_secs(90), command.kill_on_drop(true).output()).await;
    ended.unwrap_or_else(|_| panic!("{command_line:?} is still running")).ok()
}

#[tokio::test]
async fn producers_in_other_languages_get_their_results() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let url = upstream.url("/echo");
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    for Example { file, run: how, check } in EXAMPLES {
        if !run(check, &redis).await.is_some_and(|output| output.status.success()) {
            skipped.push(file);
            continue;
        }
        let command_line = [how, &[file, &url]].concat();
        let output = run(&command_line, &redis).await.unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{file}: {stderr}");
        let result: Value = serde_json::from_str(stdout.trim()).unwrap_or_else(|_| panic!("{file}: {stdout}{stderr}"));
        assert_eq!((&result["status"], &result["http_status"]), (&Value::from("ok"), &Value::from(200)), "{file}");
        assert!(result["body"]["body"]["from"].is_string(), "{file}: {result}");
        ran.push(file);
    }
    eprintln!("run: {ran:?}; skipped, because this machine lacks the language or its Redis client: {skipped:?}");
    assert!(ran.contains(&"producer.sh"), "redis-cli is installed wherever these tests run");
}

#[test]
fn every_example_producer_is_tested_listed_in_the_readme_and_short() {
    let text = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.to_lowercase().starts_with("producer."))
        .collect();
    assert_eq!(files, EXAMPLES.iter().map(|example| example.file.to_owned()).collect());
    for file in files {
        let lines = std::fs::read_to_string(folder().join(&file)).unwrap().lines().count();
        assert!(lines <= 40 && text.contains(&file), "{file}: {lines} lines");
    }
}
