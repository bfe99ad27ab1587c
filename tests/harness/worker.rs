//! The real `redial-worker` binary, which tests can observe, freeze and kill.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::instructions::InstructionCounter;
use crate::port::Port;
use crate::process::Process;
use crate::wait::within;

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// How many lines of its log a failing test prints.
const LOG_LINES: usize = 40;

/// A running worker. Dropping it kills the process; if the test failed, it prints the end of its log.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    metrics_port: Port,
    folder: TempDir,
}

impl Worker {
    /// Starts a worker on this Redis (a URL, a `RedisServer` or a `Cluster`).
    pub fn spawn(redis: impl AsRef<str>) -> Self {
        Self::builder(redis).spawn()
    }

    /// A worker on this Redis, which can be configured before it starts.
    pub fn builder(redis: impl AsRef<str>) -> WorkerBuilder {
        Self::without_redis_url().env("REDIS_URL", redis.as_ref())
    }

    /// A worker that must find or start a Redis by itself.
    pub fn without_redis_url() -> WorkerBuilder {
        let metrics_port = Port::claim();
        let mut command = Command::new(program("redial-worker"));
        command.env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("REDIAL_ALLOW_PRIVATE", "127.0.0.0/8,::1/128")
            .env("REDIAL_METRICS_ADDR", format!("127.0.0.1:{}", metrics_port.number()))
            .env("RUST_LOG", "info");
        WorkerBuilder { command, metrics_port, prelude: None }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it with SIGKILL, whatever it is doing.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// Freezes it with SIGSTOP: to other processes it looks dead or disconnected.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Resumes it after a freeze; it does not know how much time has passed.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Asks it to drain, with SIGTERM.
    pub fn term(&self) {
        self.process.term();
    }

    /// Asks it to reload, with SIGHUP.
    pub fn hangup(&self) {
        self.process.hangup();
    }

    /// Waits until it ends; panics if it is still running at the timeout.
    pub async fn wait_exit(&self, timeout: Duration) -> ExitStatus {
        self.process.wait_exit(timeout).await
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.process.rss_bytes()
    }

    /// Its peak resident memory in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.process.peak_rss_bytes()
    }

    /// CPU time used so far, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// Its standard output and standard error so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("worker.log")).expect("the log exists");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `/readyz` returns 200; panics after 10 s, or if the worker ends.
    pub async fn wait_ready(&self) {
        let ready = || async {
            if let Some(status) = self.process.exit_status() {
                panic!("the worker ended before it was ready: {status}");
            }
            let answer = self.try_get("/readyz").await;
            matches!(answer, Ok((200, _))).then_some(())
        };
        let ready = within(READY_TIMEOUT, ready).await;
        assert!(ready.is_some(), "the worker is not ready after {READY_TIMEOUT:?}");
    }

    /// The body of `/metrics`.
    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    /// The sum of the samples with this name and at least these labels, in any order:
    /// `metric(r#"redial_calls_total{status="200"}"#)`. Zero if no sample matches, because a counter appears only once it has
    /// counted something; so a mistyped name is zero as well.
    pub async fn metric(&self, wanted: &str) -> f64 {
        let (name, labels) = split_labels(wanted);
        let wanted: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
        let page = self.metrics().await;
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let values = samples.filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let (found, labels) = split_labels(sample);
            let has_all = wanted.iter().all(|one| labels.split(',').any(|label| label == *one));
            if found == name && has_all { value.parse::<f64>().ok() } else { None }
        });
        values.sum()
    }

    /// The port of its pages.
    pub fn metrics_port(&self) -> u16 {
        self.metrics_port.number()
    }

    /// Status and body of one of its pages, such as `/healthz`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.try_get(path).await;
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    async fn try_get(&self, path: &str) -> std::io::Result<(u16, String)> {
        tokio::time::timeout(HTTP_TIMEOUT, http_get(self.metrics_port.number(), path)).await?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let skip = log.lines().count().saturating_sub(LOG_LINES);
            let end: Vec<&str> = log.lines().skip(skip).collect();
            eprintln!("--- end of the log of worker {}\n{}\n---", self.pid(), end.join("\n"));
        }
    }
}

/// A worker that has not been started yet.
#[derive(Debug)]
pub struct WorkerBuilder {
    command: Command,
    metrics_port: Port,
    /// What a shell does first, such as lowering a limit.
    prelude: Option<String>,
}

impl WorkerBuilder {
    /// Sets an environment variable, overriding the harness's own.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Starts this program, such as that of another release.
    #[must_use]
    pub fn program(mut self, program: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut command = Command::new(program);
        command.args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    /// Counts its instructions, which makes it about fifty times slower.
    #[must_use]
    pub fn counted_by(mut self, counter: &InstructionCounter) -> Self {
        self.command = counter.count(&self.command);
        self
    }

    /// Adds a command line argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// Lets it have this many file descriptors, which it cannot raise.
    #[must_use]
    pub fn descriptor_limit(mut self, limit: usize) -> Self {
        self.prelude = Some(format!("ulimit -n {limit}"));
        self
    }

    /// Lets it have this many file descriptors until it raises its soft limit.
    #[must_use]
    pub fn soft_descriptor_limit(mut self, limit: usize) -> Self {
        self.prelude = Some(format!("ulimit -S -n {limit}"));
        self
    }

    /// Starts the worker.
    pub fn spawn(mut self) -> Worker {
        if let Some(prelude) = &self.prelude {
            // The shell becomes the worker, under the same process id.
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("{prelude} && exec \"$0\" \"$@\"")).arg(self.command.get_program());
            command.args(self.command.get_args()).env_clear();
            command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            self.command = command;
        }
        let folder = tempfile::tempdir().expect("the temp folder is writable");
        let log = File::create(folder.path().join("worker.log")).expect("a log can be written");
        let same_log = log.try_clone().expect("a file handle can be copied");
        self.command.stdin(Stdio::null()).stdout(log).stderr(same_log);
        Worker { process: Process::spawn(self.command), metrics_port: self.metrics_port, folder }
    }
}

/// A binary of this workspace, built with the same profile as the running test.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its executable");
    // Tests run from `target/<profile>/deps`, benchmarks and the demo from `target/<profile>`.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let mut found = found.filter(|file| file.is_file());
    found
        .next()
        .unwrap_or_else(|| panic!("{name} is not built: run `make test`, or `cargo build --workspace --bins` first"))
}

/// Splits `name{a="1"}` into `("name", "a=\"1\"")`.
fn split_labels(sample: &str) -> (&str, &str) {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    (name, labels.trim_end_matches('}'))
}

async fn http_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not HTTP: {head}")))?;
    Ok((status, body.to_owned()))
}
