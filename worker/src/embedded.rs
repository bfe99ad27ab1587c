//! The Redis of a worker that was given none: the one that answers on this machine, or one of its own.
//!
//! With several workers on one machine the first starts the server and the others join; when that one ends, the server
//! ends with it, and the next worker starts it again on the same data. A lock on the data folder decides who.

mod folder;
mod program;
mod server;

use std::time::Duration;

use anyhow::{Context as _, bail};
use redial_core::Db;

use crate::config::Config;
use folder::Folder;
use server::Server;

/// How long a server may take to answer: it reads all its data first.
const START: Duration = Duration::from_secs(60);

/// Where Redis is, and the server if this worker watches over one.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    server: Option<Server>,
}

impl Embedded {
    /// Finds Redis or starts it, and says in the log which.
    ///
    /// # Errors
    /// There is none and none can be started: what to install, or why it did not start.
    pub async fn ensure(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.redis_url {
            let db = Db::open(url, &config.prefix)?;
            tracing::info!(redis = %db.target(), "using the Redis of REDIS_URL");
            return Ok(Self { url: url.clone(), server: None });
        }
        let url = format!("redis://127.0.0.1:{}", config.embedded_port);
        let folder = Folder::open(config.state_dir.join("redis"))?;
        let port = config.embedded_port;
        let db = Db::open(&url, &config.prefix)?;
        match db.ping().await {
            Err(redial_core::Error::Redis(error)) if error.code() == Some("NOAUTH") => {
                bail!("the Redis at {url} wants a password: set REDIS_URL to redis://:password@127.0.0.1:{port}")
            }
            Err(error) if is_silence(&error) => {
                if !folder.is_served() && server::answers(port) {
                    bail!(
                        "something answers at 127.0.0.1:{port} that is not Redis: set REDIAL_EMBEDDED_PORT to a free port, or REDIS_URL"
                    );
                }
            }
            // It answers, if only that it is still loading its data. Where nobody serves the folder its worker was killed,
            // and it is about to end.
            _ if folder.is_served() || folder.is_data_of(&db).await => {}
            _ => {
                // Somebody else's to start and stop: taking its port while it restarts would be in its way.
                tracing::info!(redis = %url, "REDIS_URL is not set: using the Redis that answers here");
                return Ok(Self { url, server: None });
            }
        }
        let log = folder.log();
        let server = Server::watch_over(config.embedded_port, folder)?;
        until_it_answers(&db, &server)
            .await
            .with_context(|| format!("the embedded Redis did not start; its log is {}", log.display()))?;
        if !server.is_own() {
            tracing::info!(redis = %url, "REDIS_URL is not set: joining the embedded Redis of another worker");
        }
        Ok(Self { url, server: Some(server) })
    }

    /// Where Redis is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends the server, if this worker started it, and waits until it has written all it has.
    pub async fn end(self) {
        if let Some(server) = self.server {
            // The wait blocks, for a second at most in practice.
            let _ = tokio::task::spawn_blocking(move || server.end()).await;
        }
    }
}

/// Whether this is what a ping brings where no Redis is.
fn is_silence(error: &redial_core::Error) -> bool {
    match error {
        redial_core::Error::Redis(error) => error.code().is_none(),
        redial_core::Error::Unreachable { .. } => true,
        _ => false,
    }
}

async fn until_it_answers(db: &Db, server: &Server) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + START;
    while let Err(error) = db.ping().await {
        if let Some(why) = server.failed() {
            bail!(why);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
