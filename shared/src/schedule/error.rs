//! What is wrong with a schedule.

use crate::protocol::task::InvalidTask;

/// A schedule that can never work. The message says what to change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// Its name has other characters than those allowed.
    #[error("{0:?} is not a valid schedule name: use 1 to 100 letters, digits, `.`, `_`, `-` or `/`")]
    Name(String),
    /// Its cron expression cannot be parsed.
    #[error(
        "{expression:?} is not a valid cron expression: {why} Use five fields, as in \"30 6 * * 1-5\" (minute, hour, day, month, weekday), six with seconds before them, or @hourly, @daily, @weekly, @monthly"
    )]
    Cron {
        /// The expression.
        expression: String,
        /// What the parser found.
        why: String,
    },
    /// Its time zone does not exist.
    #[error("{0:?} is not a known time zone: use a name such as Europe/Berlin")]
    TimeZone(String),
    /// Its times are all in the past, or do not exist.
    #[error("{0} never fires again")]
    NeverFires(String),
    /// Its task is not a JSON object.
    #[error("the task is not a JSON object: {0}")]
    NotAnObject(String),
    /// Its task has a field that a repeated task must not have.
    #[error("the task has `{field}`: omit it, {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// Why, and what to use instead.
        why: &'static str,
    },
    /// Its task is invalid.
    #[error(transparent)]
    Task(#[from] InvalidTask),
    /// Its record in Redis cannot be read.
    #[error("the schedule's record cannot be read: {0}")]
    Unreadable(String),
}
