//! Whether Redial has become slower: the instructions that a task costs, and the commands, compared with those of `benches/baseline.json`.
//!
//! Time says little on a machine that does other things as well; instructions are the same on every run, within a few percent. What start
//! and end cost is left out: each figure is the difference between a long and a short run.
//!
//! How many tasks go in one command depends on how fast Redis is beside the worker. So the worker is counted while Redis is slowed down like
//! it, and batches are of the usual size; and Redis is counted alone, so that the worker waits for it, and batches are as large as they get.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use redial_tests::{InstructionCounter, RedisServer, Reply, TestQueue, Upstream, Worker};
use tokio::time::MissedTickBehavior;

use crate::{bare, path};

/// The first argument that makes this program compare.
pub const ARGUMENT: &str = "check";
/// The argument that makes what was measured the baseline.
const UPDATE: &str = "--update";
/// How much worse a figure may be than the baseline.
const TOLERANCE: f64 = 0.10;
/// How often what is worse is measured at most: a busy machine makes batches smaller now and then, but a change makes all of them dearer.
const MAX_MEASUREMENTS: usize = 3;
/// Long enough for a program under Callgrind.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How far apart tasks are that come one at a time: longer than one takes under Callgrind, so that what is done every second adds the same to
/// each of them. To ask Redis whether one has ended would cost instructions of Redis.
const PACE: Duration = Duration::from_millis(100);

/// Figures by name; of each, less is better.
type Figures = BTreeMap<String, f64>;

/// How tasks come.
#[derive(Clone, Copy)]
enum Arrival {
    /// All of them wait before the worker starts, which makes this many calls at a time.
    Together(usize),
    /// Each is pushed [`PACE`] after the one before, and not before that has been called.
    OneAtATime,
}

impl Arrival {
    fn name(self) -> String {
        match self {
            Self::Together(concurrency) => format!("{concurrency} at a time"),
            Self::OneAtATime => "one at a time".to_owned(),
        }
    }

    /// How many tasks a short and a long run have.
    fn tasks(self) -> [u32; 2] {
        match self {
            Self::Together(_) => [1_000, 5_000],
            Self::OneAtATime => [50, 350],
        }
    }
}

/// Which programs a run counts the instructions of.
#[derive(Clone, Copy, PartialEq)]
enum Counted {
    Both,
    Redis,
}

/// What one run cost.
struct Cost {
    worker: u64,
    redis: u64,
    commands: u64,
}

/// Measures, prints the table, and fails if a figure is worse than the baseline allows.
pub async fn run(args: &[String]) -> anyhow::Result<()> {
    let updates = match args {
        [] => false,
        [only] if only == UPDATE => true,
        _ => anyhow::bail!("usage: bench {ARGUMENT} [{UPDATE}]"),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let mut now = measure().await?;
    if updates {
        fs::write(&file, serde_json::to_string_pretty(&now)? + "\n")?;
        println!("the baseline is what was measured now: {}", file.display());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{}: `{UPDATE}` writes it", file.display()))?;
    let baseline: Figures = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let mut worse = compare(&baseline, &now)?;
    for _ in 1..MAX_MEASUREMENTS {
        if worse.is_empty() {
            break;
        }
        println!("\nmeasured again, the best of each:\n");
        for (name, figure) in measure().await? {
            now.entry(name).and_modify(|best| *best = best.min(figure));
        }
        worse = compare(&baseline, &now)?;
    }
    anyhow::ensure!(
        worse.is_empty(),
        "worse than the baseline by more than {:.0} %: {}. If this is the price of something, make it the new baseline with {UPDATE} and say why in the commit",
        TOLERANCE * 100.0,
        worse.join("; ")
    );
    Ok(())
}

/// Prints both; returns what is worse.
fn compare(baseline: &Figures, now: &Figures) -> anyhow::Result<Vec<String>> {
    let same = baseline.keys().eq(now.keys());
    anyhow::ensure!(same, "the baseline has other figures than those that were measured: replace it with {UPDATE}");
    println!("| what | baseline | now | change |\n| --- | --- | --- | --- |");
    let mut worse = Vec::new();
    for ((name, before), now) in baseline.iter().zip(now.values()) {
        let change = now / before - 1.0;
        println!("| {name} | {before:.1} | {now:.1} | {:+.1} % |", change * 100.0);
        if change > TOLERANCE {
            worse.push(name.clone());
        }
    }
    Ok(worse)
}

/// An upstream that counts its calls and answers at once.
struct CountingUpstream {
    upstream: Upstream,
    calls: Arc<AtomicU64>,
}

impl CountingUpstream {
    async fn start() -> Self {
        let calls = Arc::<AtomicU64>::default();
        let counted = calls.clone();
        let upstream = Upstream::quiet(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Reply::ok().header("content-type", "application/json").body(r#"{"ok":true}"#)
        });
        Self { upstream: upstream.await, calls }
    }

    fn url(&self) -> String {
        self.upstream.url("/v1/extract")
    }
}

async fn measure() -> anyhow::Result<Figures> {
    let upstream = CountingUpstream::start().await;
    let mut figures = Figures::new();
    let bare =
        per_task(Arrival::Together(256).tasks(), async |calls| bare_client(&upstream.url(), calls).await).await?;
    figures.insert("bare client, 256 at a time: instructions a call".to_owned(), bare);
    for arrival in [Arrival::Together(256), Arrival::Together(64), Arrival::OneAtATime] {
        let tasks = arrival.tasks();
        let mut add = |what: &str, costs: [u64; 2]| {
            figures.insert(format!("{}: {what}", arrival.name()), difference(tasks, costs));
        };
        let [short, long] = costs(&upstream, arrival, Counted::Both).await?;
        add("instructions of the worker a task", [short.worker, long.worker]);
        add("commands of Redis a task", [short.commands, long.commands]);
        let [short, long] = match arrival {
            Arrival::Together(_) => costs(&upstream, arrival, Counted::Redis).await?,
            Arrival::OneAtATime => [short, long],
        };
        add("instructions of Redis a task", [short.redis, long.redis]);
    }
    Ok(figures)
}

/// What a short and a long run cost.
async fn costs(upstream: &CountingUpstream, arrival: Arrival, counted: Counted) -> anyhow::Result<[Cost; 2]> {
    let [short, long] = arrival.tasks();
    Ok([fleet(upstream, short, arrival, counted).await?, fleet(upstream, long, arrival, counted).await?])
}

/// What each further task of a long run costs.
async fn per_task(counts: [u32; 2], run: impl AsyncFn(u32) -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    Ok(difference(counts, [run(counts[0]).await?, run(counts[1]).await?]))
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are far below 2^52")]
fn difference([few, many]: [u32; 2], [short, long]: [u64; 2]) -> f64 {
    (long as f64 - short as f64) / f64::from(many - few)
}

/// The instructions of the bare loop for this many calls.
async fn bare_client(url: &str, calls: u32) -> anyhow::Result<u64> {
    let counter = InstructionCounter::new(profile("bare"));
    let mut command = Command::new(std::env::current_exe()?);
    command.args([bare::ARGUMENT, url, &calls.to_string(), "256", bare::BODY]);
    let output = tokio::process::Command::from(counter.count(&command)).output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    counter.total().context("Callgrind wrote no total")
}

/// What this many tasks cost a worker and its Redis.
async fn fleet(upstream: &CountingUpstream, tasks: u32, arrival: Arrival, counted: Counted) -> anyhow::Result<Cost> {
    let name = arrival.name().replace(' ', "-");
    let counters = ["worker", "redis"].map(|program| InstructionCounter::new(profile(&format!("{program}-{name}"))));
    let redis = RedisServer::counted_by(&counters[1]).await;
    let queue = TestQueue::new(redis.url(), "default");
    let mut connection = redis.connection().await;
    let url = upstream.url();
    let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}}}"#, bare::BODY);
    let concurrency = if let Arrival::Together(concurrency) = arrival { concurrency } else { 256 };
    let worker = Worker::builder(redis.url()).env("REDIAL_CONCURRENCY", concurrency.to_string());
    let worker = if counted == Counted::Both { worker.counted_by(&counters[0]) } else { worker };
    let commands_before = redis.info_number("total_commands_processed").await;
    let worker = match arrival {
        Arrival::Together(_) => {
            queue.push_all((0..tasks).map(task)).await;
            worker.spawn()
        }
        Arrival::OneAtATime => {
            let worker = worker.spawn();
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for n in 0..tasks {
                pace.tick().await;
                let before = upstream.calls.load(Ordering::Relaxed);
                queue.push_all([task(n)]).await;
                while upstream.calls.load(Ordering::Relaxed) == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            worker
        }
    };
    let mut own = 2;
    while path::completed(&mut connection).await?.unwrap_or(0) < u64::from(tasks) {
        own += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let commands = redis.info_number("total_commands_processed").await - commands_before - own;
    worker.term();
    anyhow::ensure!(worker.wait_exit(TIMEOUT).await.success(), "the worker failed:\n{}", worker.log());
    redis.end().await;
    let total = |counter: &InstructionCounter| {
        counter.total().with_context(|| format!("Callgrind wrote no total to {}", counter.profile().display()))
    };
    let worker = if counted == Counted::Both { total(&counters[0])? } else { 0 };
    Ok(Cost { worker, redis: total(&counters[1])?, commands })
}

/// Where the profile of a program is kept, for `callgrind_annotate`.
fn profile(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-check");
    // If it cannot be made, Callgrind says so.
    let _ = fs::create_dir_all(&folder);
    folder.join(format!("{name}.callgrind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(&str, f64)]) -> Figures {
        all.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    #[test]
    fn what_is_a_tenth_above_the_baseline_is_worse() -> anyhow::Result<()> {
        let baseline = figures(&[("better", 100.0), ("same", 100.0), ("worse", 100.0)]);
        let now = figures(&[("better", 50.0), ("same", 109.0), ("worse", 111.0)]);
        assert_eq!(compare(&baseline, &now)?, ["worse"]);
        Ok(())
    }

    #[test]
    fn a_baseline_of_other_figures_is_refused() {
        assert!(compare(&figures(&[("one", 1.0)]), &figures(&[("another", 1.0)])).is_err());
    }
}
