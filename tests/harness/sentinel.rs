//! A master, its replica, and a Sentinel that promotes the replica when the master fails.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::redis_server::{RedisServer, program};
use crate::wait::eventually;

/// The name under which the Sentinel monitors the master.
const MASTER_NAME: &str = "main";
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// A single Sentinel is its own quorum, so failovers are quick.
#[derive(Debug)]
pub struct Sentinel {
    url: String,
    master: RedisServer,
    replica: RedisServer,
    _process: Process,
    port: Port,
    _folder: TempDir,
}

impl Sentinel {
    /// Starts all three, and waits until the replica is in sync and the Sentinel has discovered it.
    pub async fn start() -> Self {
        let master = RedisServer::start().await;
        let master_port = master.port().to_string();
        let replica = RedisServer::with_args(&["--replicaof", "127.0.0.1", &master_port]).await;
        let (port, folder) = (Port::claim(), tempfile::tempdir().expect("the temp folder is writable"));
        let settings = format!(
            "port {}\nbind 127.0.0.1\nlogfile sentinel.log\ndir {}\n\
             sentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} 1\n\
             sentinel down-after-milliseconds {MASTER_NAME} 1000\n\
             sentinel failover-timeout {MASTER_NAME} 10000\n",
            port.number(),
            folder.path().display(),
        );
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, settings).expect("the temp folder is writable");
        let mut command = program();
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let sentinel = Self {
            url: format!("redis-sentinel://127.0.0.1:{}/{MASTER_NAME}", port.number()),
            master,
            replica,
            _process: Process::spawn(command),
            port,
            _folder: folder,
        };
        eventually(FORM_TIMEOUT, || sentinel.is_formed()).await;
        sentinel
    }

    /// `redis-sentinel://127.0.0.1:<port>/main`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The initial master.
    pub fn master(&self) -> &RedisServer {
        &self.master
    }

    /// The initial replica.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// Waits until the replica has every write that the master has acknowledged by now.
    pub async fn wait_replicated(&self) {
        let written = self.master.info_number("master_repl_offset").await;
        let caught_up = || async { (self.replica.info_number("slave_repl_offset").await >= written).then_some(()) };
        eventually(FORM_TIMEOUT, caught_up).await;
    }

    /// Kills the master and waits until the replica is promoted.
    pub async fn fail_over(&self) {
        self.master.kill9();
        // Sentinel disconnects the clients of a replica that it promotes, so a failed query is repeated.
        let promoted =
            || async { info(self.replica.url(), "replication").await?.contains("role:master").then_some(()) };
        eventually(FAILOVER_TIMEOUT, promoted).await;
    }

    async fn is_formed(&self) -> Option<()> {
        let is_in_sync = info(self.replica.url(), "replication").await?.contains("master_link_status:up");
        if !is_in_sync {
            return None;
        }
        let info = info(&format!("redis://127.0.0.1:{}", self.port.number()), "sentinel").await?;
        info.contains("status=ok").then_some(())?;
        info.contains("slaves=1").then_some(())
    }
}

/// A section of a server's `INFO`; `None` if the server does not reply.
async fn info(url: &str, section: &str) -> Option<String> {
    let client = redis::Client::open(url).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    redis::cmd("INFO").arg(section).query_async(&mut connection).await.ok()
}

impl AsRef<str> for Sentinel {
    fn as_ref(&self) -> &str {
        self.url()
    }
}
