//! The documentation is true: every command in the README and the book is run as written, against real servers; its programs and settings are
//! checked, its links lead somewhere, it is built and its spelling checked.

mod blocks;
mod book;
mod links;
mod pages;

use std::process::Stdio;
use std::time::Duration;

use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

/// The beginnings of commands that are not run here, and what runs them instead.
const RUN_ELSEWHERE: [(&str, &str); 12] = [
    ("make ", "run before every change lands"),
    ("./target/release/redial-worker", "every test starts a worker"),
    ("REDIS_URL=redis://10.0.0.5:6379 ./target/release/redial-worker", "every test starts a worker with its Redis"),
    ("OPENAI_API_KEY=... redial-worker ", "every test of the gateway starts a worker with its settings"),
    ("redial serve", "`gateway.rs`"),
    ("redial top", "`top.rs`"),
    ("redial queues --watch", "`top.rs`"),
    ("OPENAI_BASE_URL=", "`gateway/sdks.rs`"),
    ("curl http://127.0.0.1:8080/v1/tasks", "`gateway/tasks.rs`"),
    ("pip ", "`drop_in.rs`"),
    ("npm ", "`drop_in.rs`"),
    ("uvicorn ", "`drop_in.rs`"),
];

/// The hosts in the examples, which the upstream replaces.
const HOSTS: [&str; 6] = [
    "https://api.example.com",
    "https://example.com",
    "https://api.openai.com",
    "https://api.anthropic.com",
    "https://generativelanguage.googleapis.com",
    "https://my.app",
];

/// Every shell command in the pages, with the name of its page.
fn commands() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for block in pages::blocks(Some("sh")) {
        let whole = block.text.replace("\\\n", " ");
        let lines = whole.lines().filter(|line| !line.trim().is_empty());
        all.extend(lines.map(|line| (block.page.clone(), line.to_owned())));
    }
    all
}

struct DocsFixture {
    redis: RedisServer,
    upstream: Upstream,
    _worker: Worker,
    folder: TempDir,
}

impl DocsFixture {
    /// With the files that the commands use, a result, a dead letter and cached answers.
    async fn new() -> Self {
        let upstream = Upstream::start(|request| match request.route() {
            "/refused" => Reply::status(422),
            _ => Reply::ok().json(&json!({"label": "greeting", "choices": [{"index": 0}], "ok": true})),
        })
        .await;
        let redis = RedisServer::start().await;
        let worker = Worker::spawn(&redis);
        let fixture = Self { redis, upstream, _worker: worker, folder: tempfile::tempdir().unwrap() };
        let url = fixture.upstream.url("/v1/x");
        let batch = json!({"custom_id": "p1", "method": "POST", "url": "/v1/chat", "body": {"model": "m"}});
        for (name, text) in [
            ("tasks.jsonl", json!({"id": "t1", "url": url}).to_string()),
            ("prompts.jsonl", batch.to_string()),
            ("messages.json", json!({"requests": [{"custom_id": "m1", "params": {"model": "m"}}]}).to_string()),
            ("contents.jsonl", json!({"key": "k1", "request": {"contents": []}}).to_string()),
            ("inputs.jsonl", json!({"input": "text", "metadata": {"row_id": 7}}).to_string()),
            ("people.csv", "id,name\nc1,Ada\nc2,Bob\n".to_owned()),
            ("requests.jsonl", batch.to_string()),
            ("body.json", json!({"text": "hi"}).to_string()),
            ("task.json", json!({"url": url, "body": {"name": "{{name}}"}}).to_string()),
        ] {
            std::fs::write(fixture.folder.path().join(name), text + "\n").unwrap();
        }
        // In the pages, redis-cli connects to the default port.
        let (folder, port) = (fixture.folder.path().join("bin"), fixture.redis.port());
        std::fs::create_dir(&folder).unwrap();
        let script = format!("#!/bin/sh\nPATH=${{PATH#*:}} exec redis-cli -p {port} \"$@\"\n");
        std::fs::write(folder.join("redis-cli"), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.join("redis-cli"), mode).unwrap();
        fixture.prepare().await;
        fixture
    }

    /// Restores the tasks before each command, because the previous one may have deleted them.
    async fn prepare(&self) {
        let queue = TestQueue::new(&self.redis, "default");
        for (id, path) in [("a1", "/v1/extract"), ("a2", "/"), ("dead1", "/refused")] {
            if queue.result(id).await.is_none() || (id == "dead1" && queue.dead().await.is_empty()) {
                queue.push(json!({"id": id, "url": self.upstream.url(path), "stream": id == "a2"}).to_string()).await;
                queue.wait_result(id, Duration::from_secs(20)).await;
            }
        }
    }

    /// Fills in the command's placeholders.
    fn fill_in(&self, command: &str) -> String {
        let upstream = self.upstream.url("");
        let mut filled = HOSTS.iter().fold(command.to_owned(), |filled, host| filled.replace(host, &upstream));
        let id = if command.contains(" dead ") { "dead1" } else { "a2" };
        for (placeholder, value) in [
            (" ID...", format!(" {id}")),
            (" ID ", format!(" {id} ")),
            (" QUEUE", " default".to_owned()),
            (" TASK", format!(" '{}'", json!({"url": upstream}))),
        ] {
            filled = filled.replace(placeholder, &value);
        }
        filled
    }

    /// Runs a command in a shell that finds this build's programs and this Redis.
    async fn run(&self, command: &str) -> std::process::Output {
        let programs = Cli::new(&self.redis).program().parent().unwrap().to_owned();
        let (own, known) = (self.folder.path().join("bin"), std::env::var("PATH").unwrap_or_default());
        let path = format!("{}:{}:{known}", own.display(), programs.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.folder.path()).env("PATH", path);
        shell.env("REDIS_URL", self.redis.url()).stdin(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_secs(60), shell.output()).await;
        ended.unwrap_or_else(|_| panic!("{command} is still running")).unwrap()
    }
}

#[tokio::test]
async fn every_command_in_the_docs_runs_as_written() {
    let fixture = DocsFixture::new().await;
    let (mut ran, mut faults) = (0, Vec::new());
    for (page, command) in commands() {
        if RUN_ELSEWHERE.iter().any(|(begins, _)| command.starts_with(begins)) {
            continue;
        }
        fixture.prepare().await;
        let output = fixture.run(&fixture.fill_in(&command)).await;
        ran += 1;
        // 3: the object does not exist, for example after a command that deletes it; 5: the call is dead, for example after one that
        // cancels it.
        if !matches!(output.status.code(), Some(0 | 3 | 5)) {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            faults.push(format!("{page}: {command}\n    {}: {stderr}", output.status));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(ran >= 40, "only {ran} commands found: has the form of the pages changed?");
}

#[tokio::test]
async fn every_cli_command_is_documented() {
    let redis = RedisServer::start().await;
    let (cli, typed) = (Cli::new(&redis), commands());
    let of = |help: &str| -> Vec<String> {
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
        let lines = listed.lines().take_while(|line| line.starts_with("  "));
        lines
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .filter(|name| name != "help")
            .collect()
    };
    let mut missing = Vec::new();
    for name in of(&cli.run(&["--help"]).await.stdout) {
        let inner = of(&cli.run(&[&name, "--help"]).await.stdout);
        let whole: Vec<String> = inner.iter().map(|inner| format!("redial {name} {inner}")).collect();
        let whole = if whole.is_empty() { vec![format!("redial {name}")] } else { whole };
        missing.extend(whole.into_iter().filter(|whole| !typed.iter().any(|(_, command)| command.starts_with(whole))));
    }
    assert!(missing.is_empty(), "not documented: {missing:?}");
}
