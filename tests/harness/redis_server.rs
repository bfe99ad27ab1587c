//! A real Redis server that a test can kill, pause, resume and restart.

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
use crate::fake_clock::FakeClock;
use crate::instructions::InstructionCounter;
use crate::port::Port;
use crate::process::Process;
use crate::wait::within;

/// Enough to load an append-only file with a million tasks.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Another process may take the port between our check and Redis's bind; then another port is tried.
const MAX_START_ATTEMPTS: usize = 5;

/// A `redis-server` on a free loopback port, with a folder of its own and its append-only file enabled.
///
/// Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct RedisServer {
    /// Declared before the folder, so that the process has ended when the folder is removed.
    process: Mutex<Process>,
    url: String,
    port: Port,
    folder: TempDir,
    args: Vec<String>,
    clock: Option<FakeClock>,
}

impl RedisServer {
    /// Starts a server and waits until it replies.
    pub async fn start() -> Self {
        Self::with_args(&[]).await
    }

    /// Starts a server with further arguments, such as `&["--maxmemory", "10mb"]`, and waits until it replies.
    pub async fn with_args(args: &[&str]) -> Self {
        Self::start_on_free_port(Port::claim, args, false).await
    }

    /// Starts a server whose clock the test sets with [`set_clock`](Self::set_clock).
    pub async fn with_fake_clock() -> Self {
        Self::start_on_free_port(Port::claim, &[], true).await
    }

    /// Starts a server with further arguments, whose clock the test sets.
    pub async fn with_args_and_fake_clock(args: &[&str]) -> Self {
        Self::start_on_free_port(Port::claim, args, true).await
    }

    /// Starts a server whose instructions are counted, which makes it about fifty times slower. It never rewrites its append-only file, as
    /// the process that does that would be counted, too.
    pub async fn counted_by(counter: &InstructionCounter) -> Self {
        let folder = tempfile::tempdir().expect("the temp folder is writable");
        let args = ["--auto-aof-rewrite-percentage", "0"].map(str::to_owned).to_vec();
        let port = Port::claim();
        let server = command(&port, folder.path(), &args, None);
        // Callgrind starts a program under the name of its file, by which this one chooses what it is.
        let named = folder.path().join("redis-server");
        std::os::unix::fs::symlink(server.get_program(), &named).expect("a new folder has no such file");
        let mut renamed = Command::new(named);
        renamed.args(server.get_args());
        let process = Process::spawn(counter.count(&renamed));
        let url = format!("redis://127.0.0.1:{}", port.number());
        let server = Self { process: Mutex::new(process), url, port, folder, args, clock: None };
        assert!(server.is_up().await, "redis-server did not start under Callgrind:\n{}", server.log());
        server
    }

    /// Ends it with SIGTERM, and waits until it has ended.
    pub async fn end(&self) {
        self.process().term();
        within(START_TIMEOUT, || async { self.process().exit_status() }).await;
    }

    /// Starts a server in cluster mode, with its bus 10,000 ports above.
    pub(crate) async fn cluster_node() -> Self {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
        Self::start_on_free_port(Port::claim_with_bus, &args, false).await
    }

    async fn start_on_free_port(port: impl Fn() -> Port, args: &[&str], has_fake_clock: bool) -> Self {
        let mut log = String::new();
        for _ in 0..MAX_START_ATTEMPTS {
            let server = Self::launch(port(), args, has_fake_clock);
            if server.is_up().await {
                return server;
            }
            log = server.log();
        }
        panic!("redis-server did not start:\n{log}");
    }

    fn launch(port: Port, args: &[&str], has_fake_clock: bool) -> Self {
        let folder = tempfile::tempdir().expect("the temp folder is writable");
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let clock = has_fake_clock.then(|| FakeClock::new(folder.path()));
        let process = Process::spawn(command(&port, folder.path(), &args, clock.as_ref()));
        let url = format!("redis://127.0.0.1:{}", port.number());
        Self { process: Mutex::new(process), url, port, folder, args, clock }
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills it with SIGKILL. The writes that it had acknowledged are in the append-only file.
    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// Starts it again with the same port and data, and waits until the data is loaded.
    ///
    /// After [`kill9`](Self::kill9) this simulates recovery from a crash. A server that is still running is first shut down
    /// with SIGTERM.
    pub async fn restart(&self) {
        if self.process().is_running() {
            self.process().term();
            within(START_TIMEOUT, || async { self.process().exit_status() }).await;
        }
        let restarted = Process::spawn(command(&self.port, self.folder.path(), &self.args, self.clock.as_ref()));
        *self.process() = restarted;
        assert!(self.is_up().await, "redis-server did not restart:\n{}", self.log());
    }

    /// Sets its clock this far ahead of this machine's, or behind it. It must have been started
    /// [`with_fake_clock`](Self::with_fake_clock).
    pub fn set_clock(&self, ahead_ms: i64) {
        self.fake_clock().set(ahead_ms);
    }

    /// Stops its clock at this moment, in Unix us. It must have been started [`with_fake_clock`](Self::with_fake_clock).
    pub fn stop_clock_at(&self, unix_us: u64) {
        self.fake_clock().stop_at(unix_us);
    }

    fn fake_clock(&self) -> &FakeClock {
        self.clock.as_ref().expect("this server was started with a fake clock")
    }

    /// Freezes it: connections stay open, but nothing replies.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Resumes it.
    pub fn resume(&self) {
        self.process().resume();
    }

    /// A connection that waits longer for replies than the client's default of 500 ms.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect_single(&self.url).await.expect("this Redis accepts connections")
    }

    /// What the real `redis-cli` prints for a command, without the final newline.
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

    /// How often it has carried out a command, named in lower case; those of scripts are included.
    pub async fn calls_of(&self, command: &str) -> u64 {
        let stats = self.cli(&["INFO", "commandstats"]).await;
        let calls = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        let calls = calls.and_then(|calls| calls.split_once(','));
        calls.map_or(0, |(calls, _)| calls.parse().unwrap_or_else(|_| panic!("not a number of calls: {calls}")))
    }

    /// A number from `INFO`, such as `total_commands_processed`. Each call is itself one command.
    pub async fn info_number(&self, name: &str) -> u64 {
        let info = self.send_inline("INFO").await.expect("this Redis replies");
        let value = info.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then_some(value)
        });
        let value = value.unwrap_or_else(|| panic!("INFO has no {name}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}"))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    /// Waits until it replies; false if it ends by itself or does not reply in time.
    async fn is_up(&self) -> bool {
        let pong = || async {
            if !self.process().is_running() {
                return Some(false);
            }
            // While it loads its data, it replies "-LOADING".
            let reply = self.send_inline("PING").await.ok()?;
            (reply == "+PONG").then_some(true)
        };
        within(START_TIMEOUT, pong).await == Some(true)
    }

    /// Sends one inline command over a new socket. The client library would add commands of its own, and INFO counts them.
    async fn send_inline(&self, command: &str) -> std::io::Result<String> {
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
        self.process.lock().expect("no thread panics while it holds the process")
    }
}

impl AsRef<str> for RedisServer {
    fn as_ref(&self) -> &str {
        self.url()
    }
}

fn command(port: &Port, folder: &Path, args: &[String], clock: Option<&FakeClock>) -> Command {
    let mut command = program();
    if let Some(clock) = clock {
        clock.apply_to(&mut command);
    }
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

/// The command that starts a server, without arguments.
pub(crate) fn program() -> Command {
    if let Some(path) = on_path("valkey-server").or_else(|| on_path("redis-server")) {
        return Command::new(path);
    }
    // Debian's redis-tools has no server, but its checker is the same binary under another name, and the binary behaves
    // according to the name under which it is called.
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
