//! What a worker does while Redis is away: keep what it holds and retry, spread out, until Redis is back. A command that Redis refuses
//! for good is not retried: its sender has to find another end for the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::{Db, Error, ErrorRecovery};
use tokio_util::sync::CancellationToken;

use crate::observe::metrics::RedisErrorMetrics;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(2);
/// A command is refused for good if Redis has closed this many connections in a row on it, the last ones used for nothing else.
const MAX_CLOSED: u32 = 4;
/// How often refusals are logged; all are counted.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Retries commands, and knows whether Redis is away. One per queue, since in a Cluster each may be on another node, and one for
/// what the fleet shares.
#[derive(Debug)]
pub struct RedisRetry {
    /// What the commands are about, for the log: a queue's name.
    scope: String,
    db: Db,
    counters: RedisErrorMetrics,
    abort: CancellationToken,
    /// Whether the last command failed, so that of the many that wait only one logs it.
    is_away: AtomicBool,
    /// Since when commands have failed, and what the last one said.
    failing: Mutex<Option<(Instant, String)>>,
    refusal_logged: Mutex<Option<Instant>>,
}

/// What Redis answered.
#[derive(Debug, Clone, Copy)]
pub struct Stored<T> {
    /// The reply.
    pub value: T,
    /// Whether the command was sent more than once.
    pub resent: Resent,
}

/// Why a command was not executed, as far as is known.
#[derive(Debug, Clone)]
pub enum NotStored {
    /// The worker aborts, while Redis did not answer.
    Aborted,
    /// Redis refuses this command for good, or closes each connection on which it is sent.
    Refused(Arc<Error>),
}

/// Whether a command was sent more than once. If so, Redis may have executed an earlier copy whose reply was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    No,
    Yes,
}

/// What the failures of one command so far say about it.
#[derive(Debug, Default)]
struct Suspicion {
    /// How often in a row it ended with the loss of its connection.
    closed: u32,
}

impl Suspicion {
    /// Whether another failure is final.
    fn is_final(&mut self, error: &Error) -> bool {
        match error.recovery() {
            ErrorRecovery::Expected => self.closed = 0,
            ErrorRecovery::Unclear => self.closed += 1,
            ErrorRecovery::Never => return true,
        }
        self.closed >= MAX_CLOSED
    }
}

impl RedisRetry {
    /// Retries for the commands of `scope`, until `abort` is cancelled. Every failure is counted.
    pub fn new(scope: String, db: Db, counters: RedisErrorMetrics, abort: CancellationToken) -> Self {
        Self {
            scope,
            db,
            counters,
            abort,
            is_away: AtomicBool::new(false),
            failing: Mutex::default(),
            refusal_logged: Mutex::default(),
        }
    }

    /// Repeats a command until Redis has executed it. The command must be safe to send twice.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the command: then the caller must find another end for what it holds.
    pub async fn retry_until_stored<T, F: Future<Output = Result<T, Error>>>(
        &self,
        command: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Stored<T>, NotStored> {
        let mut backoff = RetryWaits::default();
        let mut suspicion = Suspicion::default();
        let mut resent = Resent::No;
        loop {
            let answer = match suspicion.closed {
                0 => attempt().await,
                _ => Box::pin(self.db.in_isolation(attempt())).await,
            };
            match answer {
                Ok(value) => {
                    self.succeeded();
                    return Ok(Stored { value, resent });
                }
                Err(error) if suspicion.is_final(&error) => {
                    self.refused(command, &error);
                    return Err(NotStored::Refused(Arc::new(error)));
                }
                Err(_) if self.abort.is_cancelled() => return Err(NotStored::Aborted),
                Err(error) => self.failed(command, &error),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => resent = Resent::Yes,
                () = self.abort.cancelled() => {
                    let value = attempt().await.map_err(|_| NotStored::Aborted)?;
                    return Ok(Stored { value, resent: Resent::Yes });
                }
            }
        }
    }

    /// The same for commands where it does not matter whether an earlier copy was executed.
    ///
    /// # Errors
    /// As for [`retry_until_stored`](Self::retry_until_stored).
    pub async fn retry<T, F: Future<Output = Result<T, Error>>>(
        &self,
        command: &'static str,
        attempt: impl FnMut() -> F,
    ) -> Result<T, NotStored> {
        self.retry_until_stored(command, attempt).await.map(|stored| stored.value)
    }

    /// What the commands are about.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Since when commands have failed without one that succeeded, and what the last one said.
    pub fn failing(&self) -> Option<(Instant, String)> {
        self.failing.lock().clone()
    }

    /// Redis answered a command.
    pub fn succeeded(&self) {
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
            *self.failing.lock() = None;
            tracing::info!(queue = %self.scope, "Redis answers again");
        }
    }

    /// Redis did not answer a command or refused it. Counted every time, logged once until Redis answers again.
    pub fn failed(&self, command: &'static str, error: &Error) {
        self.counters.errors.inc();
        let since = self.failing.lock().as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *self.failing.lock() = Some((since, error.to_string()));
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                queue = %self.scope,
                command,
                %error,
                "Redis does not answer or refuses the command: keeping all tasks and retrying"
            );
        }
    }

    /// Redis refused a command for good. Its sender goes on without it.
    fn refused(&self, command: &'static str, error: &Error) {
        // It answers, though not as one would like.
        self.succeeded();
        self.counters.errors.inc();
        self.counters.refusals.inc();
        let mut logged = self.refusal_logged.lock();
        if logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::error!(
                queue = %self.scope,
                command,
                %error,
                "Redis refuses a command for good, and it is not sent again; logged once a second, counted in redial_redis_refusals_total"
            );
        }
    }
}

/// Growing waits with jitter, so that workers that lost Redis together do not return together.
#[derive(Debug, Default)]
pub struct RetryWaits(Option<Duration>);

impl RetryWaits {
    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.0.unwrap_or(FIRST_WAIT);
        self.0 = Some((wait * 2).min(MAX_WAIT));
        wait.mul_f64(rand::random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> Error {
        Error::Redis(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
    }

    #[test]
    fn a_command_is_refused_at_once_or_after_closing_its_connection_several_times_in_a_row() {
        let away = || Error::Unreachable { target: "redis".into(), why: "down".into() };
        let mut suspicion = Suspicion::default();
        for _ in 0..3 * MAX_CLOSED {
            // Redis went away in between, so closing the connection is not this command's doing.
            assert!(!suspicion.is_final(&closed()) && !suspicion.is_final(&away()));
        }
        let closings = (0..).take_while(|_| !suspicion.is_final(&closed()));
        assert_eq!(closings.count(), 3);
        assert!(Suspicion::default().is_final(&Error::Data("not a number".into())));
    }
}
