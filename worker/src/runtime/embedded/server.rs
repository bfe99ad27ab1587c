//! A Redis server as a child process of this worker.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::folder::Folder;
use super::program::{self, NoServerProgram};

/// How often the watch checks the lock and the child.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server may take to exit before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A thread that keeps a server running in a data folder whenever no other worker does.
#[derive(Debug)]
pub(super) struct Server {
    state: Arc<WatchState>,
    watch: JoinHandle<()>,
}

/// What the thread and the worker tell each other.
#[derive(Debug, Default)]
struct WatchState {
    stop: AtomicBool,
    is_own: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// The server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
enum ServerFailure {
    #[error(transparent)]
    NoProgram(#[from] NoServerProgram),
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("cannot watch the server: {0}")]
    Watch(#[from] io::Error),
    #[error("{program} ended with {status}")]
    Ended { program: String, status: ExitStatus },
}

impl Server {
    /// Starts the watch.
    pub(super) fn watch_over(port: u16, folder: Folder) -> anyhow::Result<Self> {
        program::find()?;
        let state = Arc::<WatchState>::default();
        let watch = std::thread::Builder::new().name("embedded-redis".into()).spawn({
            let state = state.clone();
            move || watch(port, &folder, &state)
        })?;
        Ok(Self { state, watch })
    }

    /// Why the server did not start, if it did not.
    pub(super) fn failure(&self) -> Option<String> {
        self.state.failure.lock().clone()
    }

    /// Whether the server is this worker's child.
    pub(super) fn is_own(&self) -> bool {
        self.state.is_own.load(Ordering::Relaxed)
    }

    /// Ends the watch, and the server if it is this worker's child.
    pub(super) fn end(self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if self.watch.join().is_err() {
            tracing::error!("the thread that watches the embedded Redis panicked");
        }
    }
}

/// The thread lives as long as the child, because the kernel ends the child when its parent thread ends.
fn watch(port: u16, folder: &Folder, state: &WatchState) {
    while !state.stop.load(Ordering::Relaxed) {
        if !answers(port) && folder.try_lock() {
            state.is_own.store(true, Ordering::Relaxed);
            folder.remove_old_password();
            let ended = run(port, folder, &state.stop);
            state.is_own.store(false, Ordering::Relaxed);
            folder.unlock();
            if let Err(error) = ended {
                tracing::error!(%error, "the embedded Redis has ended");
                *state.failure.lock() = Some(error.to_string());
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// Starts the server, and returns when it has ended.
fn run(port: u16, folder: &Folder, stop: &AtomicBool) -> Result<(), ServerFailure> {
    let (command, program) = program::find()?;
    let mut child =
        spawn(command, port, folder).map_err(|source| ServerFailure::Start { program: program.clone(), source })?;
    tracing::info!(program, port, data = %folder.path().display(), "REDIS_URL is not set: started an embedded Redis");
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(ServerFailure::Ended { program, status });
        }
        if stop.load(Ordering::Relaxed) {
            end(&mut child);
            tracing::info!("the embedded Redis has ended with this worker; its data is kept");
            return Ok(());
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

fn spawn(mut command: Command, port: u16, folder: &Folder) -> io::Result<Child> {
    let port = port.to_string();
    if folder.password().is_some() {
        // The server reads settings from its standard input: everybody may read its arguments.
        command.arg("-");
    }
    let settings = [
        ("--port", port.as_str()),
        ("--bind", "127.0.0.1"),
        ("--appendonly", "yes"),
        ("--appendfsync", "everysec"),
        ("--save", ""),
        ("--maxmemory-policy", "noeviction"),
        ("--daemonize", "no"),
        ("--logfile", "redis.log"),
    ];
    for (name, value) in settings {
        command.arg(name).arg(value);
    }
    command.current_dir(folder.path()).arg("--dir").arg(".").stdout(Stdio::null()).stderr(Stdio::null());
    command.stdin(if folder.password().is_some() { Stdio::piped() } else { Stdio::null() });
    // A process group of its own: Ctrl-C at a terminal must only reach the worker, which drains before it ends the server.
    command.process_group(0);
    // SAFETY: umask and prctl are async-signal-safe and do not touch the parent's memory.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            // What the server writes is for this user only. It cannot fail.
            libc::umask(0o077);
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    if let Some((mut settings, password)) = child.stdin.take().zip(folder.password()) {
        // A server that has ended already is noticed by the watch.
        let _ = writeln!(settings, "requirepass {password}");
    }
    Ok(child)
}

/// Asks the server to save its data and exit; kills it if it does not.
fn end(child: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: a plain system call; the child has not been waited for, so no other process has its id.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(pid, libc::SIGTERM);
        }
    }
    let deadline = Instant::now() + EXIT_TIMEOUT;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill().and_then(|()| child.wait().map(|_| ()));
}

/// Whether anything listens on the port.
pub(super) fn answers(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(500)).is_ok()
}
