//! What holds for a task that does not say otherwise: the protocol's defaults, or those of a worker's configuration.

use std::time::Duration;

use super::{
    BACKOFF_BASE_MS, BACKOFF_CAP_MS, InvalidTask, JITTER, MAX_ATTEMPTS, RawRetry, Retry, TIMEOUT_MS, ms, redirects,
    retry,
};

/// What holds for a task that does not say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefaults {
    /// The timeout of one attempt.
    pub timeout: Duration,
    /// When and how often to try again.
    pub retry: Retry,
    /// How many redirects are followed.
    pub redirects: u32,
}

impl Default for TaskDefaults {
    /// Those of the protocol.
    fn default() -> Self {
        let ms = Duration::from_millis;
        let (base, cap) = (ms(BACKOFF_BASE_MS), ms(BACKOFF_CAP_MS));
        let retry = Retry { max_attempts: MAX_ATTEMPTS, base, cap, jitter: JITTER, on: vec![] };
        Self { timeout: ms(TIMEOUT_MS), retry, redirects: 0 }
    }
}

impl TaskDefaults {
    /// These defaults, as far as a configuration does not set others.
    ///
    /// # Errors
    /// A value is one that a task could not have either.
    pub fn with(
        &self,
        timeout_ms: Option<u64>,
        raw: RawRetry,
        redirect_count: Option<u32>,
    ) -> Result<Self, InvalidTask> {
        let timeout = ms("timeout_ms", timeout_ms, self.timeout, 1)?;
        let redirects = redirects(redirect_count, self.redirects)?;
        Ok(Self { timeout, retry: retry(Some(raw), &self.retry)?, redirects })
    }
}
