//! redial-worker: takes calls off Redis, makes them until they succeed, leaves the answers in Redis.
//!
//! The story of a task is in `execute`; `gate`, `call`, `classify` and `settle` are its four acts.

mod backoff;
mod breaker;
mod call;
mod classify;
mod clock;
mod config;
#[cfg(debug_assertions)]
mod debug;
mod embedded;
mod execute;
mod fetcher;
mod finisher;
mod gate;
mod guard;
mod heartbeat;
mod job;
mod leader;
mod limiter;
mod limits;
mod line;
mod lock;
mod metrics;
mod pages;
mod persist;
mod rate_headers;
mod retry_after;
mod rotation;
mod runtime;
mod scheduler;
mod settle;
mod sharer;
mod sweeper;
mod telemetry;
mod upstream;
mod webhook;
mod worker;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes HTTP calls off a Redis list, makes them until they succeed, and leaves the answers in Redis.
///
/// Settings: the environment (REDIS_URL, REDIAL_QUEUES, ...) over the file over the defaults; --print-config shows them all.
#[derive(clap::Parser)]
#[command(version)]
struct Args {
    /// The settings file [default: redial.toml, if there is one].
    #[arg(long, env = "REDIAL_CONFIG")]
    config: Option<PathBuf>,
    /// Print every setting with its meaning and its default, and end.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that this failed.
            let _ = writeln!(std::io::stderr(), "redial-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(run());
    // A name that is being looked up must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.print_config {
        return Ok(std::io::stdout().write_all(config::DEFAULTS.as_bytes())?);
    }
    let config = config::Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    telemetry::start(&config)?;
    for name in config::unknown_variables(std::env::vars().map(|(name, _)| name))? {
        tracing::warn!(name, "this variable looks like a setting but is none: see redial-worker --print-config");
    }
    // Before any TLS: reqwest and redis take the process's own provider. It fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime::run(config).await
}
