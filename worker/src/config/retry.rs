//! `[retry]`, and `retry` in an `[[upstream]]` block: how tasks are retried that do not say it themselves.

use redial_core::protocol::task::{Jitter, RawRetry};
use serde::Deserialize;

/// A block as written. Its words are those of a task's `retry`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryConfig {
    max_attempts: Option<u32>,
    base_ms: Option<u64>,
    cap_ms: Option<u64>,
    jitter: Option<Jitter>,
    on: Option<Vec<u16>>,
}

impl From<RetryConfig> for RawRetry {
    fn from(config: RetryConfig) -> Self {
        let RetryConfig { max_attempts, base_ms, cap_ms, jitter, on } = config;
        Self { max_attempts, base_ms, cap_ms, jitter, on }
    }
}
