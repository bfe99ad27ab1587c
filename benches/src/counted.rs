//! What a task costs in instructions, as Callgrind counts them, and in commands of Redis.
//!
//! What start and end cost is left out: each figure is the difference between a long and a short run.
//!
//! How many tasks go in one command depends on how fast Redis is beside the worker. So the worker is counted while Redis is slowed down like
//! it, and batches are of the usual size; and Redis is counted alone, so that the worker waits for it, and batches are as large as they get.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use redial_tests::{InstructionCounter, RedisServer, TestQueue, Upstream, Worker};
use tokio::time::MissedTickBehavior;

use crate::upstream::answer;
use crate::{bare, path};

/// Long enough for a program under Callgrind.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How far apart tasks are that come one at a time: longer than one takes under Callgrind, so that what is done every second adds the same to
/// each of them. To ask Redis whether one has ended would cost instructions of Redis.
const PACE: Duration = Duration::from_millis(100);

/// How tasks come.
#[derive(Clone, Copy)]
pub enum Arrival {
    /// All of them wait before the worker starts, which makes this many calls at a time.
    Together(usize),
    /// Each is pushed [`PACE`] after the one before, and not before that has been called.
    OneAtATime,
}

impl Arrival {
    pub fn name(self) -> String {
        match self {
            Self::Together(concurrency) => format!("{concurrency} at a time"),
            Self::OneAtATime => "one at a time".to_owned(),
        }
    }

    /// How many tasks a short and a long run have.
    pub fn tasks(self) -> [u32; 2] {
        match self {
            Self::Together(_) => [1_000, 5_000],
            Self::OneAtATime => [50, 350],
        }
    }
}

/// Which programs a run counts the instructions of.
#[derive(Clone, Copy, PartialEq)]
pub enum Counted {
    Both,
    Redis,
}

/// What one run cost.
pub struct Cost {
    pub worker: u64,
    pub redis: u64,
    pub commands: u64,
}

/// One run of a fleet.
#[derive(Clone, Copy)]
pub struct CountedFleet<'a> {
    /// Distinguishes its profiles from those of other fleets with the same arrival; "" for none.
    pub label: &'a str,
    pub arrival: Arrival,
    pub counted: Counted,
    /// Environment variables of the worker.
    pub settings: &'a [(&'a str, &'a str)],
}

/// An upstream that counts its calls and answers at once.
pub struct CountingUpstream {
    upstream: Upstream,
    calls: Arc<AtomicU64>,
}

impl CountingUpstream {
    pub async fn start() -> Self {
        let calls = Arc::<AtomicU64>::default();
        let counted = calls.clone();
        let upstream = Upstream::quiet(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            answer()
        });
        Self { upstream: upstream.await, calls }
    }

    pub fn url(&self) -> String {
        self.upstream.url("/v1/extract")
    }
}

impl CountedFleet<'_> {
    /// What a short and a long run cost.
    pub async fn costs(self, upstream: &CountingUpstream) -> anyhow::Result<[Cost; 2]> {
        let [short, long] = self.arrival.tasks();
        Ok([self.run(upstream, short).await?, self.run(upstream, long).await?])
    }

    /// What this many tasks cost a worker and its Redis.
    async fn run(self, upstream: &CountingUpstream, tasks: u32) -> anyhow::Result<Cost> {
        let Self { label, arrival, counted, settings } = self;
        let name = format!("{} {label}", arrival.name()).trim_end().replace(' ', "-");
        let counters =
            ["worker", "redis"].map(|program| InstructionCounter::new(profile(&format!("{program}-{name}"))));
        let redis = RedisServer::counted_by(&counters[1]).await;
        let queue = TestQueue::new(redis.url(), "default");
        let mut connection = redis.connection().await;
        let url = upstream.url();
        let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}}}"#, bare::BODY);
        let concurrency = if let Arrival::Together(concurrency) = arrival { concurrency } else { 256 };
        let worker = Worker::builder(redis.url()).env("REDIAL_CONCURRENCY", concurrency.to_string());
        let worker = settings.iter().fold(worker, |worker, (name, value)| worker.env(name, *value));
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
}

/// What each further task or call of a long run costs.
#[expect(clippy::cast_precision_loss, reason = "the numbers are far below 2^52")]
pub fn difference([few, many]: [u32; 2], [short, long]: [u64; 2]) -> f64 {
    (long as f64 - short as f64) / f64::from(many - few)
}

/// The instructions of a call of the bare loop.
pub async fn bare_client(upstream: &CountingUpstream) -> anyhow::Result<f64> {
    let counts = Arrival::Together(256).tasks();
    let mut costs = [0; 2];
    for (calls, cost) in counts.into_iter().zip(&mut costs) {
        *cost = bare_calls(&upstream.url(), calls).await?;
    }
    Ok(difference(counts, costs))
}

/// The instructions of the bare loop for this many calls.
async fn bare_calls(url: &str, calls: u32) -> anyhow::Result<u64> {
    let counter = InstructionCounter::new(profile("bare"));
    let mut command = Command::new(std::env::current_exe()?);
    command.args([bare::ARGUMENT, url, &calls.to_string(), "256", bare::BODY]);
    let output = tokio::process::Command::from(counter.count(&command)).output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    counter.total().context("Callgrind wrote no total")
}

/// Where the profile of a program is kept, for `callgrind_annotate`.
fn profile(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-check");
    // If it cannot be made, Callgrind says so.
    let _ = fs::create_dir_all(&folder);
    folder.join(format!("{name}.callgrind"))
}
