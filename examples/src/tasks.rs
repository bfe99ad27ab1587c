//! The prompts as tasks, and the two ways in which they are pushed.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::process::Stdio;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use redial_tests::TestQueue;
use serde_json::{Value, json};
use tokio::process::Command;

/// One JSON object a line: `id` and `prompt`.
const PROMPTS: &str = include_str!("../prompts.jsonl");
/// How long an answer is kept for others that ask the same.
const CACHE_TTL_MS: u64 = 600_000;

pub(crate) struct PromptTask {
    pub(crate) id: String,
    pub(crate) json: String,
}

/// Every prompt as a call to the chat API at `url`.
pub(crate) fn all(url: &str) -> anyhow::Result<Vec<PromptTask>> {
    let lines = PROMPTS.lines().map(|line| task(line, url).with_context(|| line.to_owned()));
    lines.collect()
}

fn task(line: &str, url: &str) -> anyhow::Result<PromptTask> {
    let line: Value = serde_json::from_str(line)?;
    let id = line["id"].as_str().context("no id")?;
    let prompt = line["prompt"].as_str().context("no prompt")?;
    let body = json!({"model": "stand-in-1", "messages": [{"role": "user", "content": prompt}]});
    // In the order in which people write and read it; a map would sort the fields.
    let json = format!(r#"{{"id":{},"url":{},"body":{body},"cache_ttl_ms":{CACHE_TTL_MS}}}"#, json!(id), json!(url));
    Ok(PromptTask { id: id.to_owned(), json })
}

/// When each task was pushed, in ms since 1970, by its id.
pub(crate) type PushTimes = HashMap<String, u64>;

/// Over one connection, as a program would.
pub(crate) async fn push_pipelined(queue: &TestQueue, tasks: &[PromptTask]) -> PushTimes {
    let now = now_ms();
    queue.push_all(tasks.iter().map(|task| &task.json)).await;
    tasks.iter().map(|task| (task.id.clone(), now)).collect()
}

/// By really running `redis-cli`; `None` where there is none.
pub(crate) async fn push_by_hand(
    port: u16,
    queue: &TestQueue,
    tasks: &[PromptTask],
) -> anyhow::Result<Option<PushTimes>> {
    let mut times = PushTimes::new();
    for task in tasks {
        times.insert(task.id.clone(), now_ms());
        let pushed = redis_cli(port, &["LPUSH", &queue.key(), &task.json]).await?;
        if pushed.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(times))
}

/// What `redis-cli` prints for a command; `None` where there is no such program.
pub(crate) async fn redis_cli(port: u16, args: &[&str]) -> anyhow::Result<Option<String>> {
    let port = port.to_string();
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port]).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = match command.output().await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output.context("running redis-cli")?,
    };
    if !output.status.success() {
        bail!("redis-cli failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()))
}

/// The line that does the same when typed.
pub(crate) fn command_line(port: u16, args: &[&str]) -> String {
    let quoted = args.iter().map(|arg| shell_quoted(arg));
    format!("redis-cli -p {port} {}", quoted.collect::<Vec<_>>().join(" "))
}

fn shell_quoted(arg: &str) -> String {
    if arg.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return arg.to_owned();
    }
    format!("'{}'", arg.replace('\'', r"'\''"))
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or_default()
}
