//! What a worker does while Redis is away: keep what it holds and retry, spread out, until Redis is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use redial_core::Error;
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Retries commands, and knows whether Redis is away. One per queue, since in a Cluster each may be on another node, and one for
/// what the fleet shares.
#[derive(Debug)]
pub struct RedisRetry {
    /// What the commands are about, for the log: a queue's name.
    scope: String,
    errors: Counter,
    abort: CancellationToken,
    /// Whether the last command failed, so that of the many that wait only one logs it.
    is_away: AtomicBool,
    /// Since when commands have failed, and what the last one said.
    failing: Mutex<Option<(Instant, String)>>,
}

/// What Redis answered.
#[derive(Debug, Clone, Copy)]
pub struct Stored<T> {
    /// The reply.
    pub value: T,
    /// Whether the command was sent more than once.
    pub resent: Resent,
}

/// Whether a command was sent more than once. If so, Redis may have executed an earlier copy whose reply was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    No,
    Yes,
}

impl RedisRetry {
    /// Retries for the commands of `scope`, until `abort` is cancelled. Every failure is counted in `errors`.
    pub fn new(scope: String, errors: Counter, abort: CancellationToken) -> Self {
        Self { scope, errors, abort, is_away: AtomicBool::new(false), failing: Mutex::default() }
    }

    /// Repeats a command until Redis has answered it; `None` if the worker aborts first. The command must be safe to send twice.
    pub async fn retry_until_stored<T, F: Future<Output = Result<T, Error>>>(
        &self,
        command: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Option<Stored<T>> {
        let mut backoff = RetryWaits::default();
        let mut resent = Resent::No;
        loop {
            match attempt().await {
                Ok(value) => {
                    self.succeeded();
                    return Some(Stored { value, resent });
                }
                Err(_) if self.abort.is_cancelled() => return None,
                Err(error) => self.failed(command, &error),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => resent = Resent::Yes,
                () = self.abort.cancelled() => {
                    return attempt().await.ok().map(|value| Stored { value, resent: Resent::Yes });
                }
            }
        }
    }

    /// The same for commands where it does not matter whether an earlier copy was executed.
    pub async fn retry<T, F: Future<Output = Result<T, Error>>>(
        &self,
        command: &'static str,
        attempt: impl FnMut() -> F,
    ) -> Option<T> {
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
        self.errors.inc();
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
