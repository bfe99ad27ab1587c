//! `redial serve`

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use redial::Client;
use redial_core::QueueName;
use redial_core::db::keys::DEFAULT_PREFIX;
use redial_core::shown::escape::{EscapeForm, LogWriter};
use redial_gateway::{EnvironmentToken, GatewayArgs, GatewaySource, healthcheck};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Serve the queues over HTTP, so that programs need no Redis: any SDK uses Redial once its base URL is changed.
///
/// POST /v1/tasks enqueues tasks and GET /v1/tasks/ID returns results, both with ?wait=SECONDS. ANY /u/NAME/PATH makes a call to the
/// [[upstream]] of that name and answers with its response:
///
///   OPENAI_BASE_URL=http://127.0.0.1:8080/u/openai python ask.py
///
/// Without a [[token]] in the settings, or a token in REDIAL_GATEWAY_TOKEN, it serves this machine only. docs/gateway.md describes
/// headers, tokens and errors.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ServeArgs {
    /// Where to listen. Default: `listen` in the settings, or else 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS:PORT", env = "REDIAL_GATEWAY_LISTEN")]
    listen: Option<SocketAddr>,
    /// Speak TLS (https), with this certificate in PEM. It is read again when the file changes and at SIGHUP.
    #[arg(long, value_name = "FILE", env = "REDIAL_GATEWAY_TLS_CERTIFICATE_FILE")]
    tls_certificate_file: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "REDIAL_GATEWAY_TLS_KEY_FILE")]
    tls_key_file: Option<PathBuf>,
    /// The settings, in the file that workers read too. Default: redial.toml in the current directory, if it exists.
    #[arg(long, value_name = "FILE", env = "REDIAL_CONFIG")]
    config: Option<PathBuf>,
    /// Ask the gateway with these settings whether it is ready, and exit: 0 if it is, else 1.
    #[arg(long)]
    healthcheck: bool,
}

impl ServeArgs {
    /// Serves until SIGTERM or SIGINT. What was said on the command line or in the environment overrides the file.
    pub async fn run(
        self,
        redis_url: Option<String>,
        prefix: Option<String>,
        queue: Option<&str>,
    ) -> anyhow::Result<ExitCode> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let colours = std::io::stderr().is_terminal();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || LogWriter::new(std::io::stderr(), EscapeForm::Text, colours))
            .with_ansi(colours)
            .init();
        let args = GatewayArgs {
            listen: self.listen,
            tls_certificate_file: self.tls_certificate_file,
            tls_key_file: self.tls_key_file,
            queue: queue.map(QueueName::new).transpose()?,
            token: EnvironmentToken::read().map_err(anyhow::Error::msg)?,
        };
        let source = GatewaySource { file: self.config, args };
        let config = source.load()?;
        if self.healthcheck {
            healthcheck::check(&config).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let redis_url = redis_url.or_else(|| config.redis_url.clone()).map_or_else(super::default_redis_url, Ok)?;
        let prefix = prefix.or_else(|| config.prefix.clone()).unwrap_or_else(|| DEFAULT_PREFIX.into());
        let client = Client::with_prefix(&redis_url, &prefix, config.queue.as_str())?;
        // Each caller that waits has a connection. If the limit cannot be raised, fewer can wait.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (mut hangup, (told, hangups)) = (signal(SignalKind::hangup())?, watch::channel(()));
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                told.send_replace(());
            }
        });
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        redial_gateway::serve(config, &client, source, hangups, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    }
}
