//! The signals that stop a worker: SIGTERM (systemd, Kubernetes, docker stop) and SIGINT (Ctrl-C).

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals within this time of the first belong to it: `timeout`, shells and init processes send one stop to a process and to its
/// group.
const SAME_STOP: Duration = Duration::from_millis(20);

/// Receives the signals.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts receiving.
    ///
    /// # Errors
    /// The system does not allow signal handlers.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
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
