//! The `redial` command: enqueue calls, run batches, wait for answers, inspect and operate queues.
//!
//! - [`commands`]: one file per command
//! - [`batch`]: `redial batch`, which pushes a file of calls, journals it and resumes it
//! - [`task_json`]: tasks as the command line reads and builds them
//! - [`output`]: text or JSON on standard output
//!
//! It is a library for the fuzz targets in `tests/fuzz`; `main.rs` is the program.

mod batch;
mod commands;
mod output;
mod task_json;

pub use batch::fuzz;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use redial::Client;
use redial_core::db::keys::DEFAULT_PREFIX;

use commands::{
    breakers, cache, cancel, dead, enqueue, events, limits, list, partition, queues, result, schedule, serve, status,
    stream, top, wait,
};
use output::Output;

/// Enqueue HTTP calls on a Redial queue, read their answers, and operate queues.
///
/// Exit codes: 0 success; 1 an error, printed to standard error; 2 wrong usage; 3 not found; 4 some lines of a batch failed; 5 a call is dead.
#[derive(Debug, Parser)]
#[command(name = "redial", version, propagate_version = true)]
struct RedialArgs {
    /// Where Redis is: redis://, rediss://, redis-cluster://, redis-sentinel://. Default: redis://127.0.0.1:6379
    #[arg(long, global = true, help_heading = EVERY_COMMAND, env = "REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// The queue. Default: default
    #[arg(short, long, global = true, help_heading = EVERY_COMMAND)]
    queue: Option<String>,
    /// The prefix of every key in Redis. Default: redial
    #[arg(long, global = true, help_heading = EVERY_COMMAND, env = "REDIAL_PREFIX")]
    prefix: Option<String>,
    /// Print JSON, one object per line.
    #[arg(long, global = true, help_heading = EVERY_COMMAND)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every command has.
const EVERY_COMMAND: &str = "Options of every command";

/// The help of a command is at its arguments, or here where two commands share them.
#[derive(Debug, Subcommand)]
enum Command {
    Enqueue(Box<enqueue::EnqueueArgs>),
    Batch(Box<batch::BatchArgs>),
    Result(result::ResultArgs),
    Wait(wait::WaitArgs),
    Stream(stream::StreamArgs),
    Events(events::EventsArgs),
    Status(status::StatusArgs),
    List(list::ListArgs),
    Cancel(cancel::CancelArgs),
    Serve(serve::ServeArgs),
    /// List queues: how many tasks are in each state, and how many workers serve them.
    Queues(queues::WatchQueuesArgs),
    Top(top::TopArgs),
    /// Pause a queue: workers claim nothing more from it, and finish what they hold.
    Pause(queues::QueueArgs),
    /// Resume a paused queue.
    Resume(queues::QueueArgs),
    Partition(partition::PartitionArgs),
    /// List workers: how many tasks they hold, when their lease ends, and which release and protocol they are of.
    Workers(queues::QueuesArgs),
    /// Dead letters: calls that failed for good.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Stored answers: show or delete one.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Limits that the fleet shares: show them, set one, or unset it.
    Limits(limits::LimitsArgs),
    /// Upstreams that are down: circuit breakers that the fleet shares.
    Breakers(breakers::BreakersArgs),
    /// Calls that the fleet makes at fixed times.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Print completions for a shell, as in: redial completions bash > /etc/bash_completion.d/redial
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, as in: redial man-pages /usr/local/share/man/man1
    ManPages {
        /// The folder.
        folder: PathBuf,
    },
}

/// Runs the program, with the arguments of the process.
pub fn main() -> ExitCode {
    let args = RedialArgs::parse();
    // Required before TLS connections to Redis. It fails only if it has been done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A server uses all processors; a command is done before they would help.
    let mut threads = match args.command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let ended = match threads.enable_all().build() {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: RedialArgs) -> anyhow::Result<ExitCode> {
    if let Command::Completions { shell } = args.command {
        // Generated completely before it is printed: a reader that has gone away is not an error.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut RedialArgs::command(), "redial", &mut script);
        output::bytes(script.trim_ascii_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::ManPages { folder } = &args.command {
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(RedialArgs::command(), folder))
            .with_context(|| format!("cannot write manual pages to {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Serve(serve) = args.command {
        return serve.run(args.redis_url, args.prefix, args.queue.as_deref()).await;
    }
    let redis_url = args.redis_url.map_or_else(commands::default_redis_url, Ok)?;
    let prefix = args.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    let client = Client::with_prefix(&redis_url, prefix, args.queue.as_deref().unwrap_or("default"))?;
    let (queue, output) = (client.queue(), if args.json { Output::Json } else { Output::Text });
    match args.command {
        Command::Enqueue(args) => args.run(&client, output).await,
        Command::Batch(batch) => batch.run(prefix, queue, output).await,
        Command::Result(args) => args.run(&client).await,
        Command::Wait(args) => args.run(&client).await,
        Command::Stream(args) => args.run(&client, output).await,
        Command::Events(args) => args.run(&client, output).await,
        Command::Cancel(args) => args.run(&client, output).await,
        Command::Status(args) => args.run(queue, output).await,
        Command::List(args) => args.run(queue, output).await,
        Command::Queues(args) => args.run(queue, output).await,
        Command::Top(args) => args.run(queue, output).await,
        Command::Workers(args) => args.list_workers(queue, output).await,
        Command::Pause(args) => args.pause(queue, output).await,
        Command::Resume(args) => args.resume(queue, output).await,
        Command::Partition(args) => args.run(queue, output).await,
        Command::Dead(command) => command.run(queue, output).await,
        Command::Cache(command) => command.run(queue, output).await,
        Command::Limits(args) => args.run(queue, output).await,
        Command::Breakers(args) => args.run(queue, output).await,
        Command::Schedule(command) => command.run(&client, output).await,
        // Done above, before a connection was needed.
        Command::Completions { .. } | Command::ManPages { .. } | Command::Serve(_) => Ok(ExitCode::SUCCESS),
    }
}
