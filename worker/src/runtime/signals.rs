//! The signals that stop a worker: SIGTERM (systemd, Kubernetes, docker stop), SIGINT (Ctrl-C), and SIGHUP if its terminal was closed.
//! Otherwise SIGHUP reloads settings.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Signals within this time of the first belong to it: `timeout`, shells and init processes send one stop to a process and to its
/// group.
const SAME_STOP: Duration = Duration::from_millis(20);

/// Receives the signals.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    hangups: Arc<Notify>,
    had_terminal: bool,
}

impl Signals {
    /// Starts receiving.
    ///
    /// # Errors
    /// The system does not allow signal handlers.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            hangups: Arc::default(),
            had_terminal: io::stderr().is_terminal(),
        })
    }

    /// Notified at each SIGHUP that asks for a reload, while [`next`](Self::next) is waited for.
    pub fn hangups(&self) -> Arc<Notify> {
        self.hangups.clone()
    }

    /// Waits for a signal to stop.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    // A worker that someone started by hand must not go on unseen.
                    if self.had_terminal && !io::stderr().is_terminal() {
                        return;
                    }
                    self.hangups.notify_one();
                }
            }
        }
    }

    /// Waits, after a first signal, for a second one that was meant as such.
    pub async fn second(&mut self) {
        let first = Instant::now();
        loop {
            self.next().await;
            if first.elapsed() > SAME_STOP {
                return;
            }
        }
    }
}
