//! Redial compared with a bare HTTP client, in one run on the same cores, so that the ratio is what counts.
//!
//! `make bench` prints the table of `docs/performance.md`. Every figure comes from a release build of the real worker, a real
//! redis-server and a real upstream; other processes generate the load.
//!
//! - [`rounds`]: what all comparisons have in common
//! - [`path`]: whole tasks, compared with [`bare`], the client without Redis
//! - [`memo`], [`limits`]: what a cache and a limit cost
//! - [`batch`]: `redial batch`, and waiting for results
//! - [`gateway`]: what the gateway adds to a call
//! - [`observed`], [`views`]: what recording what happens costs, and looking at it
//! - [`idle`], [`memory`]: the latency of an idle worker, and the memory of waiting tasks
//! - [`upstream`]: what the upstreams answer, and the one that the comparison with other job queues, `benches/peers`, calls
//! - [`scale`]: what stays as it is when there is more of everything; [`growth`]: the memory of a worker after a million tasks. Both only when
//!   asked for, since they take long
//! - [`check`]: whether a task costs more than it did, by what [`counted`] counts: instructions and commands; only when asked for, by
//!   `make bench-check`
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark: any failure should stop it with a message, and it prints its table"
)]

mod bare;
mod batch;
mod check;
mod counted;
mod gateway;
mod growth;
mod idle;
mod limits;
mod memo;
mod memory;
mod observed;
mod path;
mod rounds;
mod scale;
mod upstream;
mod views;

use gateway::Awaited;
use observed::Recording;
use rounds::{CONCURRENCY, ROUNDS};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The parts that can be measured on their own.
const PARTS: [&str; 10] = ["path", "observed", "memo", "limits", "batch", "gateway", "views", "idle", SCALE, GROWTH];
/// The parts that take so long that they are measured only on their own.
const SCALE: &str = "scale";
const GROWTH: &str = "growth";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [bare::ARGUMENT, url, calls, concurrency, body] => {
            // One thread per core, as in the worker's runtime.
            let runtime = tokio::runtime::Runtime::new()?;
            return runtime.block_on(bare::run(url, calls.parse()?, concurrency.parse()?, body));
        }
        [check::ARGUMENT, ..] => return tokio::runtime::Runtime::new()?.block_on(check::run(&args[1..])),
        [upstream::ARGUMENT] => return tokio::runtime::Runtime::new()?.block_on(upstream::run()),
        _ => {}
    }
    let (tasks, wanted) = match args.as_slice() {
        [] => (60_000, None),
        [tasks] => (tasks.parse()?, None),
        [tasks, part] if PARTS.contains(&part.as_str()) => (tasks.parse()?, Some(part.clone())),
        _ => anyhow::bail!("usage: bench [tasks per round [{}]]", PARTS.join("|")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(report(tasks, wanted.as_deref()))
}

async fn report(tasks: usize, wanted: Option<&str>) -> anyhow::Result<()> {
    println!("{tasks} tasks per round, {CONCURRENCY} at a time, medians of {ROUNDS} rounds\n");
    println!("| what | measured | budget |\n| --- | --- | --- |");
    for part in PARTS.iter().filter(|part| wanted.map_or(![SCALE, GROWTH].contains(part), |wanted| wanted == **part)) {
        match *part {
            "path" => whole_path(tasks).await?,
            "observed" => observing(tasks).await?,
            "views" => viewing().await?,
            "memo" => memos(tasks).await?,
            "limits" => limited(tasks).await?,
            "batch" => batches(tasks).await?,
            "gateway" => through_the_gateway(tasks).await?,
            SCALE => scaling(tasks).await?,
            GROWTH => growing().await?,
            _ => idling().await?,
        }
    }
    Ok(())
}

async fn whole_path(tasks: usize) -> anyhow::Result<()> {
    let whole = path::measure(tasks).await?;
    println!("| bare reqwest loop | {:.0} calls/s | |", whole.bare);
    println!("| whole path, 0 ms upstream, results stored | {:.0} tasks/s | |", whole.redial);
    println!("| ratio | {:.0} % | >= 60 % |", 100.0 * whole.redial / whole.bare);
    println!("| Redis commands per task, as INFO counts them | {:.2} | <= 2 |", whole.commands);
    Ok(())
}

async fn observing(tasks: usize) -> anyhow::Result<()> {
    let rates = observed::measure(tasks).await?;
    let nothing = rates[&Recording::Nothing];
    for (recording, rate) in rates {
        let (name, share) = (recording.name(), 100.0 * rate / nothing);
        match recording {
            Recording::Nothing => println!("| {name} | {rate:.0} tasks/s | |"),
            Recording::Default => println!("| {name}, metrics read each second | {share:.0} % of that | >= 97 % |"),
            Recording::SomeTraces => println!("| {name} | {share:.0} % of that | >= 97 % |"),
            Recording::AllTraces => println!("| {name} | {share:.0} % of that | |"),
        }
    }
    Ok(())
}

async fn viewing() -> anyhow::Result<()> {
    for views::ViewCost { view, taken, commands, median, longest } in views::measure().await? {
        println!(
            "| with 1,000,000 tasks waiting and 100,000 dead: {view} | {taken:.1} ms, {commands:.0} commands; Redis each time {median:.2} ms, at most {longest:.2} ms | <= 5 ms |"
        );
    }
    Ok(())
}

async fn memos(tasks: usize) -> anyhow::Result<()> {
    let plain = path::measure(tasks).await?.redial;
    for (hits, rate, commands) in memo::hit_rates(tasks).await? {
        println!(
            "| with a cache, {hits} % hits | {rate:.0} tasks/s, {commands:.1} commands each ({:.0} % of the plain path) | |",
            100.0 * rate / plain
        );
    }
    for (name, share, commands) in memo::safeguards(tasks).await? {
        println!("| with {name} | {:.0} % of the plain path, {commands:.1} commands each | |", 100.0 * share);
    }
    let [plain, cached] = [memory::of_complete(false).await?, memory::of_complete(true).await?];
    println!(
        "| Redis memory of a result; of the memo of a cached call | {plain:.0} B, {:.0} B | <= 481 B |",
        cached - plain
    );
    let shared = memo::share().await?;
    println!(
        "| 1,000 identical tasks, 4 workers, one call: the last answer after the first | {shared:.0} ms | <= 100 ms |"
    );
    Ok(())
}

async fn limited(tasks: usize) -> anyhow::Result<()> {
    let [plain, limited] = limits::cost(tasks).await?;
    println!(
        "| under a limit that is never reached | {:.0} tasks/s, {:.1} commands each ({:.0} % of the plain path) | |",
        limited.0,
        limited.1,
        100.0 * limited.0 / plain.0
    );
    let [alone, beside] = limits::unlimited_beside_waiting(tasks).await?;
    println!(
        "| others of the queue while 10,000 wait for a limit of 1/s | {beside:.0} tasks/s ({:.0} % of those alone) | >= 90 % |",
        100.0 * beside / alone
    );
    for (rate, used, commands) in limits::utilisation().await? {
        println!(
            "| a limit of {rate}/s with a backlog: used | {:.1} %, {commands:.1} commands a task | |",
            100.0 * used
        );
    }
    Ok(())
}

async fn batches(tasks: usize) -> anyhow::Result<()> {
    let batch = batch::measure(tasks).await?;
    println!(
        "| redial batch, beside raw pipelining | {:.0} lines/s ({:.0} % of {:.0} tasks/s) | >= 80 % |",
        batch.lines,
        100.0 * batch.lines / batch.raw,
        batch.raw
    );
    let [tenth, all] = batch.peak_mib;
    println!("| its peak memory, for a tenth of the lines and for all | {tenth:.0} MiB, {all:.0} MiB | flat |");
    let [p50, p99] = batch::wait_latency().await?;
    println!("| 1,000 waiters: from the result being there to having it, p50, p99 | {p50} ms, {p99} ms | <= 5 ms |");
    Ok(())
}

async fn through_the_gateway(tasks: usize) -> anyhow::Result<()> {
    // At its rate, a round takes ten seconds by default.
    let [direct, through] = gateway::measure((tasks / 12).max(100), Awaited::Answer).await?;
    println!("| direct calls at {} a second, p50, p99 | {:.2} ms, {:.2} ms | |", gateway::RATE, direct.p50, direct.p99);
    println!("| the same through the gateway | {:.2} ms, {:.2} ms | |", through.p50, through.p99);
    println!("| added, p50 | {:.2} ms | <= 1 ms |", through.p50 - direct.p50);
    println!("| added, p99 | {:.2} ms | <= 4 ms |", through.p99 - direct.p99);
    let [direct, through] = gateway::measure((tasks / 60).max(100), Awaited::FirstByte).await?;
    println!(
        "| direct streams at {} a second, first byte, p50, p99 | {:.2} ms, {:.2} ms | |",
        gateway::STREAM_RATE,
        direct.p50,
        direct.p99
    );
    println!("| the same through the gateway | {:.2} ms, {:.2} ms | |", through.p50, through.p99);
    println!("| added to the first byte, p50 | {:.2} ms | <= 2 ms |", through.p50 - direct.p50);
    let waiting = gateway::wait_together().await?;
    println!(
        "| {} callers wait: memory of the gateway, connections to Redis, all answered after a worker starts | {} MiB, {}, {:.1} s | |",
        waiting.callers,
        waiting.memory >> 20,
        waiting.connections,
        waiting.answered_after.as_secs_f64()
    );
    let open = gateway::open_streams().await?;
    println!(
        "| {} open streams, each with an event a second: memory of the gateway, connections to Redis (worker included), the longest wait of any for an event | {} MiB, {}, {:.2} s | |",
        open.streams,
        open.memory >> 20,
        open.connections,
        open.longest_wait.as_secs_f64()
    );
    Ok(())
}

async fn idling() -> anyhow::Result<()> {
    println!("| Redis memory per waiting task of 300 B | {:.0} B | <= 400 B |", memory::of_waiting().await?);
    let idle = idle::measure(2_000).await;
    println!("| idle: LPUSH to first byte at the upstream, p50 | {:.2} ms | <= 0.5 ms |", idle.p50);
    println!("| the same, p99 | {:.2} ms | <= 2 ms |", idle.p99);
    Ok(())
}

async fn scaling(tasks: usize) -> anyhow::Result<()> {
    for calls in [10_000, 50_000] {
        let [worker, client] = match scale::in_flight(calls).await {
            Ok(memory) => memory,
            Err(why) => {
                println!("| {calls} calls in flight | not measured: {why} | |");
                continue;
            }
        };
        println!(
            "| {calls} calls in flight: memory of the worker, and of a bare client | {} MiB, {} MiB ({} %) | <= 120 % |",
            worker >> 20,
            client >> 20,
            worker * 100 / client
        );
    }
    let [library, raw] = scale::enqueue(200_000).await?;
    println!(
        "| 200,000 tasks pushed by the library | {library:.0} tasks/s ({:.0} % of raw LPUSH) | >= 90 % |",
        100.0 * library / raw
    );
    let [redial, client] = scale::large_answers().await?;
    println!(
        "| answers of 1 MB, stored | {redial:.0} MB/s ({:.0} % of a bare client) | >= 50 % |",
        100.0 * redial / client
    );
    let [one, many] = scale::hosts(tasks, 10_000).await?;
    println!("| calls to 10,000 hosts | {many:.0} tasks/s ({:.0} % of those to one) | |", 100.0 * many / one);
    let (short, long) = (scale::with_backlog(60_000).await?, scale::with_backlog(1_000_000).await?);
    println!(
        "| a backlog of 1,000,000 | {long:.0} tasks/s ({:.0} % of those of one of 60,000) | >= 95 % |",
        100.0 * long / short
    );
    Ok(())
}

async fn growing() -> anyhow::Result<()> {
    let growth = growth::measure().await?;
    let mib = |bytes: u64| bytes >> 20;
    println!("| a worker's memory after 20,000 tasks | {} MiB | |", mib(growth.warm));
    for (what, bytes) in [("1,000,000 tasks", growth.tasks), ("10,000 reconnects more", growth.reconnects)] {
        println!("| the same after {what} | {} MiB ({} %) | <= 110 % |", mib(bytes), bytes * 100 / growth.warm);
    }
    Ok(())
}
