//! What happens to a task, as programs in any language read it: the events of a queue.

use serde::{Deserialize, Serialize};

use crate::{Reason, Source, Status, TaskId, UnixMs};

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// When, by Redis's clock.
    pub at_ms: UnixMs,
    /// The task's id. Null for a task without one that could not be read.
    pub task: Option<TaskId>,
    /// What.
    #[serde(flatten)]
    pub kind: TaskEventKind,
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEventKind {
    /// Its producer pushed it, or else a worker saw it for the first time.
    Queued,
    /// An attempt began.
    Started {
        /// Which one, from 1.
        attempt: u32,
        /// The host that is called, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// An attempt failed, and there will be another one.
    AttemptFailed {
        /// Which one, from 1.
        attempt: u32,
        /// The HTTP status of the response, if there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        http_status: Option<u16>,
        /// How long it took.
        took_ms: u64,
        /// What went wrong, in words.
        error: String,
    },
    /// It waits.
    Waiting {
        /// What for.
        #[serde(rename = "for")]
        cause: WaitCause,
        /// The name of the limit, or the host and port of the upstream.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Until when, if that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        until_ms: Option<UnixMs>,
    },
    /// It has ended, and its result is stored.
    Done {
        /// How.
        status: Status,
        /// Why it is dead.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
        /// What went wrong, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Where the answer came from.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// A time: its own, or that of a retry.
    Time,
    /// Its turn under a limit.
    Limit,
    /// An upstream: it is down, or has as many calls in flight as it may.
    Upstream,
    /// The answer of another task that makes the same call.
    Answer,
    /// One of the last three.
    Other,
}

impl WaitCause {
    /// Its name, as in `for`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Limit => "limit",
            Self::Upstream => "upstream",
            Self::Answer => "answer",
            Self::Other => "other",
        }
    }
}

impl TaskEventKind {
    /// Its name, as in `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started { .. } => "started",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Waiting { .. } => "waiting",
            Self::Done { .. } => "done",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_objects_that_name_themselves() -> Result<(), Box<dyn std::error::Error>> {
        let waiting =
            TaskEventKind::Waiting { cause: WaitCause::Limit, name: Some("acme".into()), until_ms: Some(UnixMs(9)) };
        let event = TaskEvent { at_ms: UnixMs(7), task: Some(TaskId::new("a")?), kind: waiting };
        let json = serde_json::to_string(&event)?;
        assert_eq!(json, r#"{"at_ms":7,"task":"a","event":"waiting","for":"limit","name":"acme","until_ms":9}"#);
        assert_eq!(serde_json::from_str::<TaskEvent>(&json)?, event);
        for kind in [TaskEventKind::Queued, TaskEventKind::Started { attempt: 1, host: Some("h".into()) }, event.kind] {
            assert_eq!(serde_json::to_value(&kind)?["event"], kind.name());
        }
        Ok(())
    }
}
