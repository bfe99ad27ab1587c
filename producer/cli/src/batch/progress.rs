//! Saying how far the batch is, for `redial batch list`, `redial top` and the dashboard.

use std::time::{Duration, Instant};

use redial::Queue;
use redial_core::queue::batch_progress::{BatchProgress, BatchState, NEWS_INTERVAL_MS};
use redial_core::{Error, UnixMs};

use super::journal::Totals;

/// It says something at most this often.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// And at least this often, even if there is nothing new.
const MAX_INTERVAL: Duration = Duration::from_millis(NEWS_INTERVAL_MS);

/// Publishes what the totals are.
pub struct ProgressReporter {
    queue: Queue,
    last: BatchProgress,
    said_at: Option<Instant>,
}

impl ProgressReporter {
    /// Of a batch with an output file of this name.
    pub fn new(queue: Queue, batch: &str, output: &str) -> Self {
        let last = BatchProgress {
            batch: batch.to_owned(),
            name: BatchProgress::short_name(output),
            state: BatchState::Running,
            lines: 0,
            answered: 0,
            failed: 0,
            invalid: 0,
            retries: 0,
            started_at_ms: UnixMs(0),
            updated_at_ms: UnixMs(0),
        };
        Self { queue, last, said_at: None }
    }

    /// Says it if it is time to.
    pub async fn say_when_due(&mut self, totals: Totals, lines: u64) {
        let new = self.with(BatchState::Running, totals, lines);
        let wait = if new == self.last { MAX_INTERVAL } else { MIN_INTERVAL };
        if self.said_at.is_none_or(|said_at| said_at.elapsed() >= wait) {
            self.publish(new).await;
        }
    }

    /// Says it at once.
    pub async fn say(&mut self, state: BatchState, totals: Totals, lines: u64) {
        self.publish(self.with(state, totals, lines)).await;
    }

    fn with(&self, state: BatchState, totals: Totals, lines: u64) -> BatchProgress {
        let Totals { ok: answered, failed, bad: invalid, retries } = totals;
        BatchProgress { state, lines, answered, failed, invalid, retries, ..self.last.clone() }
    }

    async fn publish(&mut self, new: BatchProgress) {
        self.last = new;
        self.said_at = Some(Instant::now());
        // The batch goes on without: if Redis is away, it notices by itself.
        let _ = self.try_publish().await;
    }

    async fn try_publish(&mut self) -> Result<(), Error> {
        let now = self.queue.db().now().await?;
        if self.last.started_at_ms == UnixMs(0) {
            self.last.started_at_ms = now;
        }
        self.last.updated_at_ms = now;
        self.queue.publish_progress(&self.last).await
    }
}
