//! What can go wrong between a program and its answers.

use redial_core::protocol::id::{InvalidId, InvalidQueueName};
use redial_core::protocol::task::{InvalidLimit, TaskError};
use redial_core::schedule::ScheduleError;

use crate::TaskId;

/// An error of this library: a variant per cause. A call that failed is not an error here; its [`TaskResult`](crate::TaskResult) says
/// so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A task is invalid. Nothing was pushed.
    #[error("{}{task}", Position(*.index))]
    InvalidTask {
        /// Its position among the tasks that were enqueued together, from 0.
        index: usize,
        /// What is wrong with it.
        task: Box<TaskError>,
    },
    /// A value of a [`Call`](crate::Call) cannot be serialized as JSON. Nothing was pushed.
    #[error("{}`{field}` cannot be serialized as JSON: {error}", Position(*.index))]
    Serialize {
        /// Its position among the tasks that were enqueued together, from 0.
        index: usize,
        /// The field of the task.
        field: &'static str,
        /// What serde found.
        error: std::sync::Arc<serde_json::Error>,
    },
    /// A task id is invalid.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The name of a queue is invalid.
    #[error(transparent)]
    InvalidQueueName(#[from] InvalidQueueName),
    /// A schedule can never work. Nothing was changed.
    #[error(transparent)]
    InvalidSchedule(#[from] ScheduleError),
    /// The definition of a limit is invalid. Nothing was changed.
    #[error(transparent)]
    InvalidLimit(#[from] InvalidLimit),
    /// The URL of Redis cannot be parsed.
    #[error(transparent)]
    InvalidUrl(redial_core::Error),
    /// Redis cannot be reached.
    #[error(transparent)]
    Unreachable(redial_core::Error),
    /// Redis refused a command, or did not answer in time.
    #[error(transparent)]
    Redis(redial_core::Error),
    /// The task changed places every time it was found. Cancel it again.
    #[error("task {0} changed places while it was being cancelled: try again")]
    TaskMoving(TaskId),
    /// Redis holds data that this version of Redial did not write.
    #[error("unexpected data in Redis: {0}; was it written by another version or by hand?")]
    UnexpectedData(String),
}

impl Error {
    /// Says which of several tasks an error is about.
    pub(crate) fn at(self, index: usize) -> Self {
        match self {
            Self::InvalidTask { task, .. } => Self::InvalidTask { index, task },
            Self::Serialize { field, error, .. } => Self::Serialize { index, field, error },
            other => other,
        }
    }
}

impl From<redial_core::Error> for Error {
    fn from(error: redial_core::Error) -> Self {
        use redial_core::Error as Core;
        match error {
            Core::Id(error) => Self::InvalidId(error),
            Core::QueueName(error) => Self::InvalidQueueName(error),
            Core::Schedule(error) => Self::InvalidSchedule(error),
            Core::TaskMoving(id) => Self::TaskMoving(id),
            Core::Data(what) => Self::UnexpectedData(what),
            Core::Url(_) => Self::InvalidUrl(error),
            Core::Unreachable { .. } => Self::Unreachable(error),
            Core::Redis(_) => Self::Redis(error),
        }
    }
}

impl From<Box<TaskError>> for Error {
    fn from(task: Box<TaskError>) -> Self {
        Self::InvalidTask { index: 0, task }
    }
}

/// "task 3: " for the third of several tasks. A single task needs no number.
struct Position(usize);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, "task {}: ", self.0 + 1) }
    }
}
