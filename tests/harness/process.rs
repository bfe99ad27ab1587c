//! A child process that tests can kill, pause and resume, and that never outlives them.
//!
//! The kernel kills each child when its parent dies (`PR_SET_PDEATHSIG`), so that a test process that is itself killed leaves
//! nothing behind. That signal is tied to the *thread* that spawned the child, and test threads end early, so a single thread
//! that never ends spawns all children.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::within;

/// A running (or ended) child. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    child: Mutex<Child>,
}

impl Process {
    /// Starts a command; panics if it cannot be started.
    pub fn spawn(command: Command) -> Self {
        let program = command.get_program().to_owned();
        let child = spawn_on_permanent_thread(command)
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { pid: child.id(), child: Mutex::new(child) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it with SIGKILL, whatever it is doing, and reaps it.
    pub fn kill9(&self) {
        let mut child = self.child();
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be reaped");
    }

    /// Asks it to stop, with SIGTERM.
    pub fn term(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Asks it to reload, with SIGHUP.
    pub fn hangup(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Freezes it with SIGSTOP; returns once all of its threads have stopped.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.is_running() && !self.is_stopped() {
            assert!(Instant::now() < deadline, "SIGSTOP did not stop it");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Resumes it, with SIGCONT.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Its exit status, or `None` while it is running.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// Whether it has not ended yet; a paused process counts as running.
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits until it ends; panics if it is still running at the timeout.
    pub async fn wait_exit(&self, timeout: Duration) -> ExitStatus {
        within(timeout, || async { self.exit_status() })
            .await
            .unwrap_or_else(|| panic!("process {} is still running after {timeout:?}", self.pid))
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Its peak resident memory in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// CPU time that all of its threads have used so far, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc_file("stat");
        // The second field is the program's name in parentheses, which may contain spaces.
        let (_, fields) = stat.rsplit_once(") ").expect("stat has a name in parentheses");
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("utime and stime are numbers"))
            .sum();
        // USER_HZ is 100 on every Linux that Redial runs on.
        Duration::from_millis(ticks * 10)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no thread panics while it holds the child")
    }

    /// Signals it unless it was reaped, because its id may belong to another process by then.
    fn signal(&self, signal: libc::c_int) {
        let mut child = self.child();
        if child.try_wait().expect("a child can be waited for").is_some() {
            return;
        }
        let pid = libc::pid_t::try_from(self.pid).expect("process ids are small");
        #[allow(unsafe_code)]
        // SAFETY: kill(2) accesses none of our memory, and the process is an unreaped child.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "signal {signal}: {}", io::Error::last_os_error());
    }

    fn is_stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return true;
        };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
        })
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes = kilobytes.and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a running process has a memory size") * 1024
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).expect("the process runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

type SpawnRequest = (Command, mpsc::Sender<io::Result<Child>>);

static SPAWNER: LazyLock<mpsc::Sender<SpawnRequest>> = LazyLock::new(|| {
    let (requests, inbox) = mpsc::channel::<SpawnRequest>();
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (command, sender) in inbox {
                // If nobody waits for the child any more, it is dropped here; the kernel kills it with us.
                let _ = sender.send(spawn_bound_to_current_thread(command));
            }
        })
        .expect("a thread can be started");
    requests
});

fn spawn_on_permanent_thread(command: Command) -> io::Result<Child> {
    let (sender, result) = mpsc::channel();
    SPAWNER.send((command, sender)).expect("the spawner thread never ends");
    result.recv().expect("the spawner thread never ends")
}

fn spawn_bound_to_current_thread(mut command: Command) -> io::Result<Child> {
    let parent = std::process::id();
    // In a process group of its own, so that Ctrl-C at the terminal reaches only the tests, which then end their children.
    command.process_group(0);
    #[allow(unsafe_code)]
    // SAFETY: only async-signal-safe calls are allowed between fork and exec, and both of these are.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn()
}
