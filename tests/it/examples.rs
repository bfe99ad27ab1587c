//! The examples of the Rust library, each run as a user would run it: against a real Redis, a real worker and a real upstream.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use redial_tests::{Cli, RedisServer, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tokio::process::Command;

const EXAMPLES: [&str; 7] = ["call", "cache", "once", "limit", "chain", "schedule", "stream"];
const MAX_LINES: usize = 40;
const SOON: Duration = Duration::from_secs(20);

struct Stage {
    redis: RedisServer,
    upstream: Upstream,
    _worker: Worker,
}

impl Stage {
    async fn new() -> Self {
        let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
        let worker = Worker::spawn(&redis);
        Self { redis, upstream, _worker: worker }
    }

    /// Runs an example with the URLs of these paths. Returns the lines that it printed.
    async fn run(&self, example: &str, paths: &[&str]) -> Vec<String> {
        let programs = Cli::new(&self.redis).program().with_file_name("examples");
        let program = programs.join(example);
        assert!(
            program.is_file(),
            "the examples are not built: run `make test`, or `cargo build --workspace --examples`"
        );
        let mut command = Command::new(program);
        command.args(paths.iter().map(|path| self.upstream.url(path)));
        command.env("REDIS_URL", self.redis.url()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{example} is still running")).unwrap();
        assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn example_call_prints_the_answer_and_retries() {
    let stage = Stage::new().await;
    assert_eq!(stage.run("call", &["/echo"]).await, ["Some(200) after 1 attempts"]);
    assert_eq!(stage.upstream.calls()[0].body, r#"{"text":"hi"}"#);
    assert_eq!(stage.run("call", &["/flaky/1/503?key=a"]).await, ["Some(200) after 2 attempts"]);
    let failed = stage.run("call", &["/status/422"]).await;
    assert!(failed[0].starts_with("failed: ") && failed[0].contains("422"), "{failed:?}");
}

#[tokio::test]
async fn example_cache_pays_for_one_call() {
    let stage = Stage::new().await;
    assert_eq!(stage.run("cache", &["/echo"]).await, ["Some(200) from Call", "Some(200) from Cache"]);
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn example_once_makes_one_call_and_reports_an_unknown_outcome() {
    let stage = Stage::new().await;
    assert_eq!(stage.run("once", &["/echo"]).await, ["done"]);
    let unknown = stage.run("once", &["/close"]).await;
    assert!(unknown[0].starts_with("unknown whether it was done"), "{unknown:?}");
    let refused = stage.run("once", &["/status/422"]).await;
    assert!(refused[0].starts_with("not done: "), "{refused:?}");
    assert_eq!(stage.upstream.count(), 3, "one call each");
}

#[tokio::test]
async fn example_limit_stays_within_its_rate() {
    let stage = Stage::new().await;
    let lines = stage.run("limit", &["/ok"]).await;
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().all(|line| line.ends_with("Some(200)")), "{lines:?}");
    let last: f64 = lines[9].split_whitespace().next().unwrap().parse().unwrap();
    // Ten calls at five per second, the first of them at once.
    assert!((1.7..10.0).contains(&last), "{lines:?}");
}

#[tokio::test]
async fn example_chain_passes_values_on() {
    let stage = Stage::new().await;
    let lines = stage.run("chain", &["/ok", "/echo"]).await;
    let body: Value = serde_json::from_str(lines[0].strip_prefix("Some(200) ").unwrap()).unwrap();
    assert_eq!(body["body"], json!({"report": {"ok": true}, "status": 200}));
}

#[tokio::test]
async fn example_stream_prints_the_answer_or_says_that_it_failed() {
    let stage = Stage::new().await;
    assert_eq!(stage.run("stream", &["/ok"]).await, ["status 200", r#"{"ok":true}"#, "complete"]);
    assert_eq!(stage.run("stream", &["/status/422"]).await, ["failed: status 422"]);
}

#[tokio::test]
async fn example_schedule_makes_calls_and_removes_itself() {
    let stage = Stage::new().await;
    let lines = stage.run("schedule", &["/ok"]).await;
    assert!(lines[0].starts_with("health: */2 * * * * * (Europe/Berlin), next at Some"), "{lines:?}");
    assert_eq!(lines[1], "removed: true");
    eventually(SOON, async || (stage.upstream.count() >= 1).then_some(())).await;
    assert_eq!(Cli::new(&stage.redis).run(&["schedule", "list"]).await.stdout, "");
}

#[test]
fn every_example_is_tested_and_short() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../producer/examples");
    let mut found = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{name}: {lines} lines");
        found.push(name);
    }
    found.sort();
    let mut expected = EXAMPLES.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
}
