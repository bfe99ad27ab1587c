//! The real `redial` binary.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::worker::program;

/// Longer than any command of a test takes.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Runs `redial` commands against one Redis.
#[derive(Clone, Debug)]
pub struct Cli {
    redis_url: String,
    variables: Vec<(String, String)>,
}

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// Its exit status; -1 if a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Cli {
    /// Runs commands against this Redis (a URL, a `RedisServer` or a `Cluster`).
    pub fn new(redis: impl AsRef<str>) -> Self {
        Self { redis_url: redis.as_ref().to_owned(), variables: Vec::new() }
    }

    /// The same with one more variable in the environment of its commands.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The path of the binary.
    pub fn program(&self) -> PathBuf {
        program("redial")
    }

    /// Starts `redial <args>` without waiting for it. Dropping the child kills it.
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(program("redial"));
        command
            .args(args)
            .env_clear()
            .envs(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("REDIS_URL", &self.redis_url)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().expect("an existing program can be started")
    }

    /// Runs `redial <args>` with an empty stdin.
    pub async fn run(&self, args: &[&str]) -> CommandOutput {
        self.run_with_input(args, b"").await
    }

    /// Runs `redial <args>` with this stdin.
    pub async fn run_with_input(&self, args: &[&str], input: impl AsRef<[u8]>) -> CommandOutput {
        let mut child = self.start(args);
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let feed = async move {
            // A command may end without reading all of its input.
            let _ = stdin.write_all(input.as_ref()).await;
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = timeout(TIMEOUT, run)
            .await
            .unwrap_or_else(|_| panic!("redial {args:?} is still running after {TIMEOUT:?}"))
            .expect("a child can be waited for");
        CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
