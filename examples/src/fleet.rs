//! Two workers on a Redis of their own: the first starts it, the second finds and joins it.

use std::time::Duration;

use anyhow::Context as _;
use redial_tests::wait::within;
use redial_tests::{Port, Worker};
use tempfile::TempDir;

const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Dropping it kills the workers; [`stop`](Self::stop) is the polite way.
pub(crate) struct Fleet {
    joiner: Worker,
    starter: Worker,
    redis_port: Port,
    /// Declared last, so that it is removed when nobody writes to it any more.
    _state: TempDir,
}

impl Fleet {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let redis_port = Port::claim();
        let state = tempfile::tempdir().context("a folder for the data of Redis")?;
        let worker = || {
            Worker::without_redis_url()
                .env("REDIAL_EMBEDDED_PORT", redis_port.number().to_string())
                .env("REDIAL_STATE_DIR", state.path().to_string_lossy())
                .env("REDIAL_ALLOW_PRIVATE", "127.0.0.0/8")
                .env("REDIAL_DRAIN_MS", "3000")
                .spawn()
        };
        let starter = worker();
        starter.wait_ready().await;
        let joiner = worker();
        joiner.wait_ready().await;
        Ok(Self { joiner, starter, redis_port, _state: state })
    }

    pub(crate) fn redis_port(&self) -> u16 {
        self.redis_port.number()
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis_port())
    }

    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.starter.pid(), self.joiner.pid()]
    }

    /// The one that holds Redis goes last. One that does not go is killed.
    pub(crate) async fn stop(self) {
        for worker in [&self.joiner, &self.starter] {
            worker.term();
            within(EXIT_TIMEOUT, || async { (!worker.is_running()).then_some(()) }).await;
        }
    }
}
