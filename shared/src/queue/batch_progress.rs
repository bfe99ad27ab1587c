//! How far the batches of a queue are, as each says of itself about once a second, for those who watch.

use serde::{Deserialize, Serialize};

use crate::{Error, Queue, UnixMs};

/// How long what a batch said last is kept: a day.
const PROGRESS_TTL_MS: u64 = 24 * 3600 * 1000;
/// How many batches of a queue are kept: those that said something last.
const MAX_BATCHES: usize = 100;
/// A batch that runs says so at least this often; without news for three times as long, it was killed or cut off.
pub const NEWS_INTERVAL_MS: u64 = 10_000;
/// The maximum number of characters of a batch's name.
const MAX_NAME_CHARS: usize = 60;

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchState {
    /// It pushes lines and takes answers.
    Running,
    /// It was stopped before its end. It goes on when its command is run again.
    Stopped,
    /// All lines are finished.
    Done,
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchProgress {
    /// Its id.
    pub batch: String,
    /// The name of its output file.
    pub name: String,
    /// What becomes of it.
    pub state: BatchState,
    /// How many lines it has.
    pub lines: u64,
    /// Lines with a good answer.
    pub answered: u64,
    /// Lines whose call failed.
    pub failed: u64,
    /// Lines that are not a call.
    pub invalid: u64,
    /// Attempts beyond the first of each line.
    pub retries: u64,
    /// When this run of it began.
    pub started_at_ms: UnixMs,
    /// When it said all this.
    pub updated_at_ms: UnixMs,
}

impl BatchState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }
}

impl BatchProgress {
    /// How many lines are finished.
    pub fn finished(&self) -> u64 {
        self.answered + self.failed + self.invalid
    }

    /// Whether it should have said something since: it was killed, or Redis was away.
    pub fn is_silent(&self, now: UnixMs) -> bool {
        self.state == BatchState::Running && now.since(self.updated_at_ms) > 3 * NEWS_INTERVAL_MS
    }

    /// A name that is short enough.
    pub fn short_name(name: &str) -> String {
        name.chars().take(MAX_NAME_CHARS).collect()
    }
}

impl Queue {
    /// Says how far a batch is.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn publish_progress(&self, progress: &BatchProgress) -> Result<(), Error> {
        let json = serde_json::to_string(progress).map_err(|error| Error::Data(format!("a batch: {error}")))?;
        let (index, now) = (&self.keys.batches, progress.updated_at_ms.0);
        let beyond = -isize::try_from(MAX_BATCHES).unwrap_or(isize::MAX) - 1;
        let mut publish = redis::pipe();
        publish.cmd("SET").arg(self.keys.batch_progress(&progress.batch)).arg(&json).arg("PX").arg(PROGRESS_TTL_MS);
        publish.cmd("ZADD").arg(index).arg(now).arg(&progress.batch);
        publish.cmd("ZREMRANGEBYSCORE").arg(index).arg("-inf").arg(now.saturating_sub(PROGRESS_TTL_MS));
        publish.cmd("ZREMRANGEBYRANK").arg(index).arg(0).arg(beyond);
        publish.cmd("PEXPIRE").arg(index).arg(PROGRESS_TTL_MS);
        self.db.run(async |connection| publish.exec_async(connection).await).await
    }

    /// The batches that said something within a day, the newest first.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn batches(&self) -> Result<Vec<BatchProgress>, Error> {
        let mut range = redis::cmd("ZREVRANGE");
        range.arg(&self.keys.batches).arg(0).arg(MAX_BATCHES - 1);
        let ids: Vec<String> = self.db.run(async |connection| range.query_async(connection).await).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = redis::cmd("MGET");
        for id in &ids {
            get.arg(self.keys.batch_progress(id));
        }
        let texts: Vec<Option<String>> = self.db.run(async |connection| get.query_async(connection).await).await?;
        // What another version wrote says nothing.
        Ok(texts.into_iter().flatten().filter_map(|text| serde_json::from_str(&text).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_batch_that_runs_can_be_silent() -> Result<(), serde_json::Error> {
        let text = r#"{"batch":"b","name":"out","state":"running","lines":9,"answered":1,"failed":2,"invalid":3,"retries":4,"started_at_ms":5,"updated_at_ms":6}"#;
        let running: BatchProgress = serde_json::from_str(text)?;
        let stopped = BatchProgress { state: BatchState::Stopped, ..running.clone() };
        let late = UnixMs(6 + 3 * NEWS_INTERVAL_MS + 1);
        assert_eq!((running.finished(), running.is_silent(UnixMs(6)), running.is_silent(late)), (6, false, true));
        assert!(!stopped.is_silent(late));
        assert_eq!(serde_json::to_string(&running)?, text);
        assert_eq!(BatchProgress::short_name(&"\u{e4}".repeat(500)).chars().count(), MAX_NAME_CHARS);
        Ok(())
    }
}
