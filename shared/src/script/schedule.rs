//! Schedules: tasks that are pushed by the clock.

use redis::{FromRedisValue, ParsingError, Value};

use super::{Values, typed_calls};
use crate::UnixMs;

typed_calls! {
    /// Adds or replaces a schedule. Returns when it fires next.
    PutSchedule = "schedule/put_schedule" + ["entry"] -> UnixMs {
        keys: schedules, firings;
        args: name: &'a str, header: &'a str, task: &'a str, next_at_ms: UnixMs;
    }

    /// Removes a schedule. `false`: there was none of this name.
    RemoveSchedule = "schedule/remove_schedule" + ["types"] -> bool {
        keys: schedules, firings;
        args: name: &'a str;
    }

    /// Lists the schedules that are due.
    ListDueSchedules = "schedule/due_schedules" + ["clock", "entry"] -> DueSchedules {
        keys: schedules, firings;
        args: max_schedules: usize;
    }

    /// Pushes the task of a schedule that is due. `false`: this time was fired already, or the schedule has changed.
    FireSchedule = "schedule/fire_schedule" + ["clock", "types", "count", "entry"] -> bool {
        keys: schedules, firings, waiting, stats;
        args: name: &'a str, header: &'a str, due_at_ms: UnixMs, next_at_ms: Option<UnixMs>, task_start: &'a str;
    }
}

/// The schedules that are due.
#[derive(Debug, PartialEq, Eq)]
pub struct DueSchedules {
    /// Redis TIME.
    pub now: UnixMs,
    /// When the next one beyond these fires.
    pub next_at: Option<UnixMs>,
    /// Those that are due.
    pub due: Vec<DueSchedule>,
}

/// A schedule that is due.
#[derive(Debug, PartialEq, Eq)]
pub struct DueSchedule {
    /// Its name.
    pub name: String,
    /// When it was due.
    pub due_at: UnixMs,
    /// When it fires, one line of JSON.
    pub header: String,
}

impl FromRedisValue for DueSchedules {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let (now, next_at): (_, i64) = (values.next()?, values.next()?);
        let mut due = Vec::new();
        while !values.is_empty() {
            due.push(DueSchedule { name: values.next()?, due_at: values.next()?, header: values.next()? });
        }
        Ok(Self { now, next_at: u64::try_from(next_at).ok().map(UnixMs), due })
    }
}
