//! redial-worker: takes HTTP calls off a Redis list, makes them until they succeed, and leaves the answers in Redis.
//!
//! `task/execute.rs` tells the story of a task; `task/gate`, `task/policy` and `task/settle.rs` are its chapters. In reading order:
//!
//! - [`task`]: the life of a task: gate, call, classify, settle
//! - [`http`]: the call itself
//! - [`memo`], [`limit`], [`breaker`]: what the fleet shares, asked before a call and told after it
//! - [`in_flight`]: the calls in flight to each upstream, so that one which hangs leaves room for the others
//! - [`queue`]: claims, slots, completions, heartbeats, and what is taken over from workers that died
//! - [`runtime`]: start and stop in order, and the embedded Redis
//! - [`observe`]: metrics, health, the HTTP endpoints, logs
//! - [`config`]: the settings
//! - [`pages`]: the manual page and completions
//! - [`fuzz`]: what the worker reads of upstreams, as functions of bytes
//! - `future_size`: how large a future is, in tests only
//!
//! It is a library for the fuzz targets in `tests/fuzz`; `main.rs` is the program.

mod breaker;
mod config;
#[cfg(test)]
mod future_size;
pub mod fuzz;
mod http;
mod in_flight;
mod limit;
mod memo;
mod observe;
mod pages;
mod queue;
mod runtime;
mod task;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

/// Takes HTTP calls off a Redis list, makes them until they succeed, and leaves the answers in Redis.
///
/// The environment (REDIS_URL, REDIAL_QUEUES, ...) overrides the settings file, which overrides the defaults; --print-config shows them all.
#[derive(clap::Parser)]
#[command(version)]
struct Args {
    /// The settings file [default: redial.toml, if it exists].
    #[arg(long, env = "REDIAL_CONFIG")]
    config: Option<PathBuf>,
    /// Print every setting with its meaning and default, and exit.
    #[arg(long)]
    print_config: bool,
    /// Check the settings, and the secrets and certificates that they name, and exit: 0 if a worker could start with them, else 1.
    #[arg(long, conflicts_with_all = ["print_config", "healthcheck"])]
    check_config: bool,
    /// Ask the worker at the configured metrics_addr whether it is ready, and exit: 0 if it is, else 1.
    #[arg(long, conflicts_with = "print_config")]
    healthcheck: bool,
    #[command(flatten)]
    pages: pages::PageArgs,
}

/// Runs the program, with the arguments of the process.
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If this fails, there is nowhere left to report it.
            let _ = writeln!(std::io::stderr(), "redial-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(run());
    // A pending DNS lookup must not delay the exit.
    runtime.shutdown_background();
    ended
}

async fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.print_config {
        return Ok(std::io::stdout().write_all(config::DEFAULTS.as_bytes())?);
    }
    if let Some(page) = args.pages.page(Args::command()) {
        return Ok(std::io::stdout().write_all(&page)?);
    }
    let config = config::Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    // Before any TLS: reqwest and redis use the provider of the process. This fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if args.check_config {
        return runtime::check(&config);
    }
    if args.healthcheck {
        return Ok(observe::healthcheck::check(config.metrics_addr).await?);
    }
    observe::telemetry::start(&config)?;
    for name in config::unknown_variables(std::env::vars().map(|(name, _)| name))? {
        tracing::warn!(
            name,
            "this environment variable looks like a setting, but there is none of that name; see redial-worker --print-config"
        );
    }
    runtime::run(config).await
}
