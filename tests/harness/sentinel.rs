//! A master, its replica, and a Sentinel that puts the replica in the master's place when that is gone.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::redis_server::{RedisServer, program};
use crate::wait::eventually;

/// What the Sentinel calls the master.
const NAME: &str = "main";
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// One Sentinel is its own majority: enough to fail over, and quick.
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
    /// Starts all three, and waits until the replica follows and the Sentinel knows it.
    pub async fn start() -> Self {
        let master = RedisServer::start().await;
        let master_port = master.port().to_string();
        let replica = RedisServer::with_args(&["--replicaof", "127.0.0.1", &master_port]).await;
        let (port, folder) = (Port::claim(), tempfile::tempdir().expect("the temp folder is writable"));
        let settings = format!(
            "port {}\nbind 127.0.0.1\nlogfile sentinel.log\ndir {}\n\
             sentinel monitor {NAME} 127.0.0.1 {master_port} 1\n\
             sentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 10000\n",
            port.number(),
            folder.path().display(),
        );
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, settings).expect("the temp folder is writable");
        let mut command = program();
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let sentinel = Self {
            url: format!("redis-sentinel://127.0.0.1:{}/{NAME}", port.number()),
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

    /// The master of the beginning.
    pub fn master(&self) -> &RedisServer {
        &self.master
    }

    /// The replica of the beginning.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// Waits until the replica has all that the master has acknowledged by now.
    pub async fn wait_replicated(&self) {
        let written = self.master.info_number("master_repl_offset").await;
        let has_it = || async { (self.replica.info_number("slave_repl_offset").await >= written).then_some(()) };
        eventually(FORM_TIMEOUT, has_it).await;
    }

    /// Kills the master and waits until the replica is one.
    pub async fn fail_over(&self) {
        self.master.kill9();
        // Sentinel closes the clients of a replica that it promotes: an answer that breaks off is looked for again.
        let promoted =
            || async { info(self.replica.url(), "replication").await?.contains("role:master").then_some(()) };
        eventually(FAILOVER_TIMEOUT, promoted).await;
    }

    async fn is_formed(&self) -> Option<()> {
        let follows = info(self.replica.url(), "replication").await?.contains("master_link_status:up");
        if !follows {
            return None;
        }
        let info = info(&format!("redis://127.0.0.1:{}", self.port.number()), "sentinel").await?;
        info.contains("status=ok").then_some(())?;
        info.contains("slaves=1").then_some(())
    }
}

/// A section of a server's `INFO`, unless it does not answer.
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
