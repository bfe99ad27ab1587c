//! A real Redis of one's own: killed, paused, resumed and restarted at will.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::connection::connect_single;
use crate::port::Port;
use crate::process::Process;
use crate::wait::within;

/// Long enough to load an append-only file of a million tasks.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A port may be taken by a stranger between our look and Redis's bind; then another is tried.
const START_TRIES: usize = 5;

/// A `redis-server` on a free loopback port, in a folder of its own, append-only file on.
///
/// Dropping it kills it and removes the folder.
#[derive(Debug)]
pub struct RedisServer {
    /// Before the folder, so that it is ended when that is removed.
    process: Mutex<Process>,
    url: String,
    port: Port,
    folder: TempDir,
    args: Vec<String>,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::with_args(&[]).await
    }

    /// Starts one with further arguments, such as `&["--maxmemory", "10mb"]`, and waits.
    pub async fn with_args(args: &[&str]) -> Self {
        Self::first_that_starts(Port::claim, args).await
    }

    /// Starts one in cluster mode, its bus 10,000 ports above.
    pub(crate) async fn cluster_node() -> Self {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
        Self::first_that_starts(Port::claim_with_bus, &args).await
    }

    async fn first_that_starts(port: impl Fn() -> Port, args: &[&str]) -> Self {
        let mut log = String::new();
        for _ in 0..START_TRIES {
            let server = Self::launch(port(), args);
            if server.answers().await {
                return server;
            }
            log = server.log();
        }
        panic!("redis-server did not start:\n{log}");
    }

    fn launch(port: Port, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("the temp folder is writable");
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let process = Process::spawn(command(&port, folder.path(), &args));
        Self { process: Mutex::new(process), url: format!("redis://127.0.0.1:{}", port.number()), port, folder, args }
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Ends it with SIGKILL. What it had acknowledged is in the append-only file.
    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// Starts it again on the same port and data, and waits until these are loaded.
    ///
    /// After [`kill9`](Self::kill9) that is a crash survived; one that still runs is first ended
    /// in order, with SIGTERM.
    pub async fn restart(&self) {
        if self.process().is_running() {
            self.process().term();
            within(START_TIMEOUT, || async { self.process().exit_status() }).await;
        }
        let again = Process::spawn(command(&self.port, self.folder.path(), &self.args));
        *self.process() = again;
        assert!(self.answers().await, "no restart:\n{}", self.log());
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process().resume();
    }

    /// A connection that waits for an answer longer than the client's default of 500 ms.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect_single(&self.url).await.expect("this Redis takes connections")
    }

    /// What the real `redis-cli` prints for a command, without the last line end.
    pub async fn cli<A: AsRef<[u8]>>(&self, args: &[A]) -> String {
        let output = tokio::process::Command::new("redis-cli")
            .arg("-p")
            .arg(self.port().to_string())
            .args(args.iter().map(|arg| OsStr::from_bytes(arg.as_ref())))
            .kill_on_drop(true)
            .output()
            .await
            .expect("redis-cli can be run (Debian: apt-get install redis-tools)");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "redis-cli failed: {printed}");
        printed.trim_end_matches('\n').to_owned()
    }

    /// A number of `INFO`, such as `total_commands_processed`. Each look is itself one command.
    pub async fn info_number(&self, name: &str) -> u64 {
        let info = self.ask("INFO").await.expect("this Redis answers");
        let value = info.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then_some(value)
        });
        let value = value.unwrap_or_else(|| panic!("INFO has no {name}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}"))
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    /// Whether it came to answer; false once it ended by itself.
    async fn answers(&self) -> bool {
        let pong = || async {
            if !self.process().is_running() {
                return Some(false);
            }
            // While it loads its data it answers "-LOADING".
            let answer = self.ask("PING").await.ok()?;
            (answer == "+PONG").then_some(true)
        };
        within(START_TIMEOUT, pong).await == Some(true)
    }

    /// One inline command over a fresh socket, without the client library, whose handshake would
    /// count as commands too.
    async fn ask(&self, command: &str) -> std::io::Result<String> {
        let socket = TcpStream::connect(("127.0.0.1", self.port())).await?;
        let mut socket = BufReader::new(socket);
        socket.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut line = String::new();
        socket.read_line(&mut line).await?;
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$') else {
            return Ok(line.to_owned());
        };
        let length = length.parse().map_err(std::io::Error::other)?;
        let mut text = vec![0; length];
        socket.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().expect("no user of the process panics")
    }
}

impl AsRef<str> for RedisServer {
    fn as_ref(&self) -> &str {
        self.url()
    }
}

fn command(port: &Port, folder: &Path, args: &[String]) -> Command {
    let mut command = program();
    command
        .arg("--port")
        .arg(port.number().to_string())
        .args(["--bind", "127.0.0.1", "--logfile", "redis.log"])
        .args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""])
        .arg("--dir")
        .arg(folder)
        .args(args)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    command
}

/// The server's program, without arguments.
pub(crate) fn program() -> Command {
    if let Some(path) = on_path("valkey-server").or_else(|| on_path("redis-server")) {
        return Command::new(path);
    }
    // Debian's redis-tools has no server, but its checker is the same binary under another name,
    // and the binary goes by the name it is called with.
    if let Some(path) = on_path("redis-check-rdb") {
        let mut command = Command::new(path);
        command.arg0("redis-server");
        return command;
    }
    panic!("no redis-server on the PATH (Debian: apt-get install redis-tools)");
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
