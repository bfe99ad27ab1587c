//! A child process that tests may kill, pause and resume, and that never outlives them.
//!
//! The kernel is asked to kill each child when its parent dies (`PR_SET_PDEATHSIG`), so that a
//! test that is itself killed leaves nothing behind. That signal is tied to the *thread* that
//! spawned the child, and test threads end early: so one thread, which never ends, spawns all.

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
    /// Starts a command; panics when it can't be started.
    pub fn spawn(command: Command) -> Self {
        let program = command.get_program().to_owned();
        let child = spawn_on_lasting_thread(command)
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { pid: child.id(), child: Mutex::new(child) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it with SIGKILL, at any instant of whatever it does, and reaps it.
    pub fn kill9(&self) {
        let mut child = self.child();
        child.kill().expect("one's own child can be killed");
        child.wait().expect("one's own child can be reaped");
    }

    /// Asks it to end, with SIGTERM.
    pub fn term(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Freezes it with SIGSTOP; returns when every thread of it stands still.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.is_running() && !self.stands_still() {
            assert!(Instant::now() < deadline, "SIGSTOP did not stop it");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on, with SIGCONT.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// How it ended, or nothing while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("one's own child can be waited for")
    }

    /// Whether it has not ended yet (a paused process runs).
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits for its end; panics when it still runs at the timeout.
    pub async fn wait_exit(&self, timeout: Duration) -> ExitStatus {
        within(timeout, || async { self.exit_status() })
            .await
            .unwrap_or_else(|| panic!("process {} still runs after {timeout:?}", self.pid))
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Processor time used so far, all threads, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc_file("stat");
        // The second field is the program's name in parentheses and may hold blanks.
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
        self.child.lock().expect("no user of a child panics")
    }

    /// Signals it unless it was reaped: its id may be someone else's by then.
    fn signal(&self, signal: libc::c_int) {
        let mut child = self.child();
        if child.try_wait().expect("one's own child can be waited for").is_some() {
            return;
        }
        let pid = libc::pid_t::try_from(self.pid).expect("process ids are small");
        #[allow(unsafe_code)]
        // SAFETY: kill(2) touches no memory of ours, and the process is an unreaped child.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "signal {signal}: {}", io::Error::last_os_error());
    }

    fn stands_still(&self) -> bool {
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
    let (jobs, inbox) = mpsc::channel::<SpawnRequest>();
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (command, answer) in inbox {
                // Nobody waits for the answer any more: then the child is dropped, and it dies
                // with us.
                let _ = answer.send(spawn_bound_to_this_thread(command));
            }
        })
        .expect("a thread can be started");
    jobs
});

fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    let (answer, result) = mpsc::channel();
    SPAWNER.send((command, answer)).expect("the spawner thread never ends");
    result.recv().expect("the spawner thread never ends")
}

fn spawn_bound_to_this_thread(mut command: Command) -> io::Result<Child> {
    let parent = std::process::id();
    // A group of its own: Ctrl-C at the terminal is for the tests, which then end their children.
    command.process_group(0);
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these two are.
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
