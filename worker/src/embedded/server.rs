//! A Redis server as this worker's child.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::folder::Folder;
use super::program;
use crate::lock::locked;

/// How often the watch looks at the lock and at the child.
const LOOK: Duration = Duration::from_millis(100);
/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(10);

/// A thread that keeps a server running on a data folder whenever no other worker does.
#[derive(Debug)]
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    own: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<String>>>,
    watch: JoinHandle<()>,
}

impl Server {
    /// Starts the watch.
    pub(super) fn watch_over(port: u16, folder: Folder) -> anyhow::Result<Self> {
        program::find().map_err(anyhow::Error::msg)?;
        let (stop, own) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let failed = Arc::new(Mutex::new(None));
        let watch = std::thread::Builder::new().name("embedded-redis".into()).spawn({
            let (stop, own, failed) = (stop.clone(), own.clone(), failed.clone());
            move || watch(port, &folder, &stop, &own, &failed)
        })?;
        Ok(Self { stop, own, failed, watch })
    }

    /// Why the server did not start, if it did not.
    pub(super) fn failed(&self) -> Option<String> {
        locked(&self.failed).clone()
    }

    /// Whether this worker runs it.
    pub(super) fn is_own(&self) -> bool {
        self.own.load(Ordering::Relaxed)
    }

    /// Ends the watch, and the server if it is this worker's.
    pub(super) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.watch.join().is_err() {
            tracing::error!("the watch over the embedded Redis has panicked");
        }
    }
}

/// The thread lives as long as the child: the child is told to end when its parent thread does.
fn watch(port: u16, folder: &Folder, stop: &AtomicBool, own: &AtomicBool, failed: &Mutex<Option<String>>) {
    while !stop.load(Ordering::Relaxed) {
        if !answers(port) && folder.take() {
            own.store(true, Ordering::Relaxed);
            let ended = run(port, folder.path(), stop);
            own.store(false, Ordering::Relaxed);
            folder.leave();
            if let Err(error) = ended {
                tracing::error!(%error, "the embedded Redis has ended");
                *locked(failed) = Some(error.to_string());
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Starts the server and stays until it ends or must.
fn run(port: u16, folder: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let (command, program) = program::find().map_err(anyhow::Error::msg)?;
    let mut child = spawn(command, port, folder).with_context(|| format!("{program} can't be started"))?;
    tracing::info!(program, port, data = %folder.display(), "REDIS_URL is not set: started an embedded Redis");
    loop {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("{program} ended with {status}");
        }
        if stop.load(Ordering::Relaxed) {
            end(&mut child);
            tracing::info!("the embedded Redis has ended with this worker; its data stays");
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn spawn(mut command: Command, port: u16, folder: &Path) -> anyhow::Result<Child> {
    let port = port.to_string();
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
    command.current_dir(folder).arg("--dir").arg(".").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its own process group: Ctrl-C at a terminal must reach the worker alone, which drains before it ends the server.
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches no memory of the parent.
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    Ok(command.spawn()?)
}

/// Asks the server to write what it has and end; kills it when it does not.
fn end(child: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: a plain system call; the child has not been waited for, so its number is still its own.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(pid, libc::SIGTERM);
        }
    }
    let deadline = Instant::now() + END;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill().and_then(|()| child.wait().map(|_| ()));
}

/// Whether anything listens there.
pub(super) fn answers(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(500)).is_ok()
}
