//! The demo: some 300 prompts to a chat API that fails as real ones do, two workers, one Redis.
//!
//! Nothing needs to be installed or running but `redis-server` (or what of it Debian's
//! `redis-tools` carries): the API runs in this process, the first worker starts the Redis.

#![allow(clippy::print_stdout, reason = "a demo is there to be read")]

mod chat;
mod fleet;
mod progress;
mod sdk;
mod summary;
mod tasks;
mod traffic;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use redial_tests::{TestQueue, Upstream};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use fleet::Fleet;
use sdk::Sdk;
use summary::{Summary, attempts};
use tasks::{PromptTask, PushTimes, command_line};

const QUEUE: &str = "default";
const TIMEOUT: Duration = Duration::from_secs(45);
/// How many tasks are pushed by running `redis-cli`.
const BY_HAND: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    // The harness panics with messages for people, who need no line of ours.
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload().downcast_ref::<String>();
        eprintln!("demo: {}", message.map_or("a fault of the demo", String::as_str));
    }));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ended = match args.as_slice() {
        [] => demo().await,
        [host, per_second] => tokio::select! {
            pushed = traffic::push(QUEUE, host, per_second) => pushed,
            () = asked_to_stop() => Ok(()),
        },
        _ => Err(anyhow!("usage: demo, or REDIS_URL=... demo HOST CALLS_PER_SECOND")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever happens after the start, Ctrl-C too, the workers are stopped in order.
async fn demo() -> anyhow::Result<()> {
    let mut stop = pin!(asked_to_stop());
    let sdk = Sdk::install();
    let api = Upstream::start(chat::handler()).await;
    let fleet = tokio::select! {
        fleet = Fleet::start() => fleet?,
        () = &mut stop => bail!("stopped"),
    };
    let result = tokio::select! {
        result = run(&fleet, &api, sdk) => result,
        () = &mut stop => Err(anyhow!("stopped")),
    };
    fleet.stop().await;
    result
}

async fn run(fleet: &Fleet, api: &Upstream, sdk: Sdk) -> anyhow::Result<()> {
    let tasks = tasks::all(&api.url(chat::PATH))?;
    introduce(fleet, api, tasks.len());

    let queue = TestQueue::new(fleet.redis_url(), QUEUE);
    let start = Instant::now();
    let pushed = push(&queue, fleet.redis_port(), &tasks).await?;
    let ids: Vec<String> = tasks.into_iter().map(|task| task.id).collect();
    let results = progress::collect(&queue, api, &ids, TIMEOUT).await;
    let summary = Summary::new(&results, &pushed, api.count(), start.elapsed());

    println!("\n{summary}");
    check(&ids, &results)?;
    show_an_answer(&queue, fleet.redis_port(), &results).await?;
    sdk.show(&fleet.redis_url(), api).await?;
    say_what_to_type_next();
    Ok(())
}

fn introduce(fleet: &Fleet, api: &Upstream, tasks: usize) {
    let [first, second] = fleet.pids();
    println!("Redial: {tasks} prompts for a chat API that fails as real ones do.\n");
    println!("  API      {}", api.url(chat::PATH));
    println!("           20 to 400 ms; 1 in 10 calls 503, 1 in 20 429 with Retry-After, some resets;");
    println!("           400 for prompts over {} characters", chat::MAX_CHARS);
    println!("  workers  processes {first} and {second}");
    println!("  Redis    127.0.0.1:{}, started by the first, joined by the second\n", fleet.redis_port());
}

/// Most over one connection, a few by hand, to show that any program will do.
async fn push(queue: &TestQueue, port: u16, tasks: &[PromptTask]) -> anyhow::Result<PushTimes> {
    let (most, few) = tasks.split_at(tasks.len() - BY_HAND);
    let start = Instant::now();
    let mut pushed = tasks::push_pipelined(queue, most).await;
    let took = start.elapsed().as_millis();
    println!("{} tasks pushed over one connection in {took} ms.", most.len());

    if let Some(times) = tasks::push_by_hand(port, queue, few).await? {
        pushed.extend(times);
        let shortest = few.iter().min_by_key(|task| task.json.len()).context("none by hand")?;
        println!("{} more by hand, one of them so:\n", few.len());
        println!("  {}\n", command_line(port, &["LPUSH", &queue.key(), &shortest.json]));
    } else {
        pushed.extend(tasks::push_pipelined(queue, few).await);
        println!("{} more likewise, as there is no redis-cli here to push them by hand.\n", few.len());
    }
    Ok(pushed)
}

/// Every task has an answer, and those that the API did not refuse for good have a good one.
fn check(ids: &[String], results: &HashMap<String, Value>) -> anyhow::Result<()> {
    let missing: Vec<_> = ids.iter().filter(|id| !results.contains_key(*id)).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} tasks have no answer after {TIMEOUT:?}, such as {:?}",
        missing.len(),
        ids.len(),
        missing[0],
    );
    let unexpected = |result: &&Value| result["status"] != "ok" && result["http_status"] != 400;
    if let Some(result) = results.values().find(unexpected) {
        bail!("a task ended as it should not have: {result}");
    }
    Ok(())
}

/// The one with the most attempts, as its history is the most worth seeing.
async fn show_an_answer(queue: &TestQueue, port: u16, results: &HashMap<String, Value>) -> anyhow::Result<()> {
    let by_attempts = results.iter().max_by_key(|(id, result)| (attempts(result), *id));
    let (id, result) = by_attempts.context("no results")?;
    let get = ["GET", &queue.result_key(id)];
    let printed = tasks::redis_cli(port, &get).await?;
    println!("One of the answers:\n\n  {}", command_line(port, &get));
    println!("  {}\n", printed.unwrap_or_else(|| result.to_string()));
    Ok(())
}

/// Commands that work as typed, from where the demo was started.
fn say_what_to_type_next() {
    let task = r#"{"id":"a1","url":"https://example.com/"}"#;
    println!("Now you. A worker, which finds or starts a Redis on this machine:\n");
    println!("  {}", typed(&beside("redial-worker")));
    println!("\nIn another terminal, a call, and its answer:\n");
    println!("  {}", command_line(6379, &["LPUSH", "redial:{default}", task]));
    println!("  {}", command_line(6379, &["GET", "redial:{default}:result:a1"]));
    let redial = beside("redial");
    if redial.is_file() {
        let redial = typed(&redial);
        println!("\nThe same by the command line, and what died:\n");
        println!("  {redial} enqueue --id a2 --url https://example.com/");
        println!("  {redial} result a2");
        println!("  {redial} dead list");
        println!("\nAnd the gateway for SDKs, with the APIs that redial.toml names (docs/gateway.md):\n");
        println!("  {redial} serve");
    }
}

/// A program in the folder of this one.
fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// How a program is called from here.
fn typed(program: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match program.strip_prefix(here) {
        Ok(path) => format!("./{}", path.display()),
        Err(_) => program.display().to_string(),
    }
}

/// Ctrl-C, or SIGTERM from whoever runs this.
async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
