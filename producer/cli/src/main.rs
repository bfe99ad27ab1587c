//! redial: put calls on a queue, read the answers, look after what died.

mod batch;
mod commands;
mod output;
mod redact;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use redial::Producer;

use commands::{breakers, cache, cancel, dead, enqueue, limits, queues, result, schedule, status, wait};

/// Put HTTP calls on a Redial queue, read the answers, and look after what died.
///
/// Exit codes: 0 done; 1 an error, said on standard error; 2 wrong usage; 3 what was asked for is not there; 4 some
/// lines of a batch failed.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Args {
    /// Where Redis is: redis://, rediss://, redis-cluster://, redis-sentinel://.
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    redis_url: String,
    /// The queue.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, default_value = "default")]
    queue: String,
    /// What every key in Redis begins with.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "REDIAL_PREFIX", default_value = redial_core::db::keys::DEFAULT_PREFIX)]
    prefix: String,
    /// Print JSON, one object a line.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// What is said of a command stands at its arguments, or here where two commands share them.
#[derive(Debug, Subcommand)]
enum Command {
    Enqueue(enqueue::Enqueue),
    Batch(batch::Batch),
    Result(result::Results),
    Wait(wait::Wait),
    Status(status::Status),
    Cancel(cancel::Cancel),
    /// List queues: how many tasks are where, how many workers there are.
    Queues(queues::Which),
    /// Let workers claim nothing more from a queue; what they have in hand ends as usual.
    Pause(queues::One),
    /// End a pause.
    Resume(queues::One),
    /// List workers: what they hold, and until when their lease lasts.
    Workers(queues::Which),
    /// Dead letters: calls that ended without a good answer.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// KeptAnswer answers: look at one, or drop it.
    #[command(subcommand)]
    Cache(cache::Cache),
    /// Limits that the fleet shares: how each stands, set one, or take that back.
    Limits(limits::Args),
    /// Upstreams that are down: their breakers, shared by the fleet.
    Breakers(breakers::Args),
    /// Calls that the fleet makes by the clock.
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Print completions for a shell, as in: redial completions bash > /etc/bash_completion.d/redial
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Before any TLS to Redis. It fails only when it was done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(args).await {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Command::Completions { shell } = args.command {
        // Made whole first: a reader that went away is no fault.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "redial", &mut script);
        output::line(String::from_utf8_lossy(&script).trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let producer = Producer::with_prefix(&args.redis_url, &args.prefix, &args.queue)?;
    match args.command {
        Command::Enqueue(enqueue) => enqueue.run(&producer, args.json).await,
        Command::Batch(batch) => batch.run(&args.prefix, producer.queue(), args.json).await,
        Command::Result(results) => results.run(&producer).await,
        Command::Wait(wait) => wait.run(&producer).await,
        Command::Cancel(cancel) => cancel.run(&producer, args.json).await,
        Command::Status(status) => status.run(producer.queue(), args.json).await,
        Command::Queues(which) => which.list(producer.queue(), args.json).await,
        Command::Workers(which) => which.workers(producer.queue(), args.json).await,
        Command::Pause(one) => one.pause(producer.queue(), args.json).await,
        Command::Resume(one) => one.resume(producer.queue(), args.json).await,
        Command::Dead(dead) => dead.run(producer.queue(), args.json).await,
        Command::Cache(cache) => cache.run(producer.queue(), args.json).await,
        Command::Limits(limits) => limits.run(producer.queue(), args.json).await,
        Command::Breakers(breakers) => breakers.run(producer.queue(), args.json).await,
        Command::Schedule(command) => command.run(&producer, args.json).await,
        // Printed before any Redis was looked for.
        Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// The exit code for what is not there.
const NOT_THERE: u8 = 3;
