//! The Redis of a worker that is not configured to use one: the one that answers on this machine, or one that it starts.
//!
//! Of several workers on one machine, the first starts the server and the others join. When that worker ends, its server ends with it,
//! and another worker starts it again with the same data. A lock on the data folder decides which one.

mod folder;
mod program;
mod server;

use std::time::Duration;

use anyhow::{Context as _, bail};
use redial_core::db::embedded;
use redial_core::{Db, container};

use crate::config::Config;
use folder::Folder;
use program::NO_REDIS_IN_CONTAINER;
use server::Server;

/// How long a server may take to answer: it loads all its data first.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Where Redis is, and the watch over its server if there is one.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    server: Option<Server>,
}

impl Embedded {
    /// Finds Redis or starts it, and logs which.
    ///
    /// # Errors
    /// There is no Redis and none can be started.
    pub async fn ensure(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.redis_url {
            let db = Db::open(url, &config.prefix).context("REDIS_URL")?;
            tracing::info!(redis = %db.target(), "using the Redis at REDIS_URL");
            return Ok(Self { url: url.clone(), server: None });
        }
        let port = config.embedded_port;
        let folder = Folder::open(embedded::data_folder(&config.state_dir), config.embedded_password);
        // In a container the file system may be read-only, but that is not what its operator has to change.
        let folder = if container::is_inside() {
            folder.with_context(|| format!("REDIS_URL is not set. {NO_REDIS_IN_CONTAINER}"))?
        } else {
            folder?
        };
        let login = folder.password().map(|password| format!(":{password}@")).unwrap_or_default();
        let url = format!("redis://{login}127.0.0.1:{port}");
        let db = Db::open(&url, &config.prefix)?;
        let shown = db.target().to_string();
        match db.ping().await {
            Err(redial_core::Error::Redis(error)) if error.code() == Some("NOAUTH") => {
                bail!(
                    "the Redis at {shown} wants a password: set REDIS_URL to redis://:password@{shown}, or, if it is the embedded Redis of a \
                     worker with embedded_password, set that here, too"
                )
            }
            Err(error) if is_unanswered(&error) => {
                if !folder.is_served() && server::answers(port) {
                    bail!(
                        "what answers at 127.0.0.1:{port} is not Redis: set REDIAL_EMBEDDED_PORT to a free port, or REDIS_URL"
                    );
                }
            }
            // It answers, even if only that it is still loading its data. If no worker serves the folder, the server's worker was killed
            // and the server is about to end.
            _ if folder.is_served() || folder.is_data_of(&db).await => {}
            _ => {
                // Others start and stop it: taking its port during a restart would get in their way.
                tracing::info!(redis = shown, "REDIS_URL is not set: using the Redis that answers here");
                return Ok(Self { url, server: None });
            }
        }
        let log = folder.log();
        let server = Server::watch_over(config.embedded_port, folder)?;
        wait_until_it_answers(&db, &server)
            .await
            .with_context(|| format!("the embedded Redis did not start; its log is {}", log.display()))?;
        if !server.is_own() {
            tracing::info!(redis = shown, "REDIS_URL is not set: joining the embedded Redis of another worker");
        }
        Ok(Self { url, server: Some(server) })
    }

    /// Where Redis is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends the server, if it is this worker's child, and waits until it has saved its data.
    pub async fn end(self) {
        if let Some(server) = self.server {
            // This blocks, in practice for a second at most.
            let _ = tokio::task::spawn_blocking(move || server.end()).await;
        }
    }
}

/// Whether a ping failed because no Redis is there.
fn is_unanswered(error: &redial_core::Error) -> bool {
    match error {
        redial_core::Error::Redis(error) => error.code().is_none(),
        redial_core::Error::Unreachable { .. } => true,
        _ => false,
    }
}

async fn wait_until_it_answers(db: &Db, server: &Server) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + START_TIMEOUT;
    while let Err(error) = db.ping().await {
        if let Some(why) = server.failure() {
            bail!(why);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
