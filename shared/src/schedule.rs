//! Schedules: tasks that are pushed at the times of a cron expression, once each by the whole fleet.
//!
//! A schedule lives in its queue's slot: its definition in a hash, its next time in a sorted set. Any worker that finds a schedule due
//! computes the time after it and sends both; one script compares them, pushes the task and moves on. So exactly one of the workers
//! that try succeeds, and a worker that dies before has done nothing.

mod error;
mod when;

use std::time::{Duration, Instant};

use serde_json::value::RawValue;

pub use error::ScheduleError;
pub use when::When;

use crate::protocol::task::{InvalidTask, MAX_BYTES, Task};
use crate::script::schedule::{DueSchedule, DueSchedules, FireSchedule, ListDueSchedules, PutSchedule, RemoveSchedule};
use crate::{Error, Queue, TaskId, UnixMs};

/// The maximum number of schedules that are fired in one round.
const MAX_FIRINGS: usize = 100;
/// Missed times up to this age are all fired late: it is longer than a fleet takes to notice a dead worker. Of older ones, which mean
/// that no fleet was running, only one is fired.
const CATCH_UP_MS: u64 = 60_000;
/// The bytes of a task that are reserved for the fields that a firing adds.
const MAX_ADDED_BYTES: usize = 512;

/// The schedules of one queue.
#[derive(Debug, Clone)]
pub struct Schedules {
    queue: Queue,
}

/// A schedule and its next time.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub when: When,
    /// When it fires next; `None` if it never fires again.
    pub next: Option<UnixMs>,
    /// The task, as the producer wrote it.
    pub task: String,
}

/// A task that a schedule pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The schedule.
    pub name: String,
    /// The task's id.
    pub id: TaskId,
    /// How late it was, in ms.
    pub late_ms: u64,
}

/// What one round of firing did.
#[derive(Debug)]
pub struct FiringRound {
    /// What this worker pushed.
    pub fired: Vec<Fired>,
    /// The names of schedules that cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// How long until the next schedule is due.
    pub next_in: Option<Duration>,
}

impl Schedules {
    /// The schedules of `queue`.
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    /// Adds a schedule, or replaces the one with this name. Returns when it fires next, which does not change if only the task does.
    ///
    /// # Errors
    /// The name or task is invalid, the schedule never fires ([`Error::Schedule`]), or Redis is unreachable or refuses the command.
    pub async fn add(&self, name: &str, when: &When, task: &str) -> Result<UnixMs, Error> {
        let task = check(name, task)?;
        let next = when.after(self.queue.db.now().await?).ok_or_else(|| ScheduleError::NeverFires(when.to_string()))?;
        let keys = &self.queue.keys;
        let call = PutSchedule {
            schedules: &keys.schedules,
            firings: &keys.firings,
            name,
            header: &when.to_line(),
            task,
            next_at_ms: next,
        };
        self.queue.db.call(&call).await
    }

    /// Removes a schedule. Returns `false` if no schedule has this name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn remove(&self, name: &str) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        self.queue.db.call(&RemoveSchedule { schedules: &keys.schedules, firings: &keys.firings, name }).await
    }

    /// All schedules, sorted by name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, or a schedule cannot be read ([`Error::Data`]).
    pub async fn list(&self) -> Result<Vec<Schedule>, Error> {
        let keys = &self.queue.keys;
        let mut ask = redis::pipe();
        ask.cmd("HGETALL").arg(&keys.schedules).cmd("ZRANGE").arg(&keys.firings).arg(0).arg(-1).arg("WITHSCORES");
        let (all, times): (std::collections::BTreeMap<String, String>, std::collections::HashMap<String, u64>) =
            self.queue.db.run(async |connection| ask.query_async(connection).await).await?;
        let read = |(name, text): (String, String)| {
            let bad = || Error::Data(format!("schedule {name}"));
            let (header, task) = text.split_once('\n').ok_or_else(bad)?;
            let when = When::parse(header).map_err(|_| bad())?;
            let next = times.get(&name).copied().map(UnixMs);
            Ok(Schedule { when, next, task: task.to_owned(), name })
        };
        all.into_iter().map(read).collect()
    }

    /// Fires the schedules that are due and that no other worker has fired.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Schedules that were not fired stay due.
    pub async fn fire_due(&self) -> Result<FiringRound, Error> {
        let keys = &self.queue.keys;
        let asked = Instant::now();
        let call = ListDueSchedules { schedules: &keys.schedules, firings: &keys.firings, max_schedules: MAX_FIRINGS };
        let DueSchedules { now, next_at, due } = self.queue.db.call(&call).await?;
        let mut round = FiringRound { fired: Vec::new(), unreadable: Vec::new(), next_in: None };
        let mut next = next_at;
        for DueSchedule { name, due_at: due, header } in due {
            let when = match When::parse(&header) {
                Ok(when) => when,
                Err(why) => {
                    round.unreadable.push((name, why.to_string()));
                    continue;
                }
            };
            let next_due = next_time(&when, due, now);
            if let Some(id) = self.fire(&name, &header, due, next_due, now).await? {
                round.fired.push(Fired { name, id, late_ms: now.since(due) });
            }
            next = [next, next_due].into_iter().flatten().min();
        }
        let wait = |at: UnixMs| Duration::from_millis(at.since(now)).saturating_sub(asked.elapsed());
        round.next_in = next.map(wait);
        Ok(round)
    }

    async fn fire(
        &self,
        name: &str,
        header: &str,
        due: UnixMs,
        next_due: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<Option<TaskId>, Error> {
        let keys = &self.queue.keys;
        let id = TaskId::new(&id_at(name, due))?;
        let call = FireSchedule {
            schedules: &keys.schedules,
            firings: &keys.firings,
            waiting: &keys.waiting,
            stats: &keys.stats,
            name,
            header,
            due_at_ms: due,
            next_at_ms: next_due,
            task_start: &object_start(&id, now),
        };
        let fired = self.queue.db.call(&call).await?;
        Ok(fired.then_some(id))
    }
}

/// When a schedule that is fired now fires next.
fn next_time(when: &When, due: UnixMs, now: UnixMs) -> Option<UnixMs> {
    let next = when.after(due)?;
    if now.since(next) > CATCH_UP_MS { when.after(now) } else { Some(next) }
}

/// The id of the task that a schedule pushes at a time: the same whichever worker pushes it.
fn id_at(name: &str, due: UnixMs) -> String {
    format!("{name}@{}", when::rfc3339(due))
}

/// The beginning of the task that a firing pushes; the rest of the object follows.
fn object_start(id: &TaskId, now: UnixMs) -> String {
    format!("{{\"id\":\"{id}\",\"enqueued_at_ms\":{now},")
}

/// Checks a schedule's name and its task as it will be pushed. Returns the task without surrounding white space.
fn check<'a>(name: &str, task: &'a str) -> Result<&'a str, ScheduleError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        return Err(ScheduleError::Name(name.to_owned()));
    }
    let task = task.trim();
    let fields: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(task).map_err(|error| ScheduleError::NotAnObject(error.to_string()))?;
    for (field, why) in [
        ("id", "each firing gets its own: the schedule's name and the time"),
        ("enqueued_at_ms", "each firing gets its own"),
        ("run_at_ms", "the schedule determines the time; `delay_ms` counts from each firing"),
        ("expires_at_ms", "use `ttl_ms`, which counts from each firing"),
        (
            "idempotency_key",
            "with the same key, later firings would not make a call but get the answer to an earlier one",
        ),
    ] {
        if fields.contains_key(field) {
            return Err(ScheduleError::Field { field, why });
        }
    }
    let parse = |json: &str| {
        Task::parse(json.as_bytes(), MAX_BYTES - MAX_ADDED_BYTES).map_err(|error| ScheduleError::Task(error.cause))
    };
    parse(task)?;
    // A field whose name is written with escapes may still clash with one that a firing adds.
    let sample = TaskId::new(&id_at(name, UnixMs::default())).map_err(InvalidTask::Id)?;
    parse(&format!("{}{}", object_start(&sample, UnixMs::default()), task.strip_prefix('{').unwrap_or_default()))?;
    Ok(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn missed_times_of_the_last_minute_all_fire_and_of_older_ones_a_single_one() -> Result<(), ScheduleError> {
        let (hourly, each_second) = (When::new("@hourly", None)?, When::new("* * * * * *", None)?);
        let next = |when, due, now| next_time(when, UnixMs(due), UnixMs(now)).map(|at| at.0);
        assert_eq!(next(&hourly, HOUR, HOUR + 5), Some(2 * HOUR));
        assert_eq!(next(&hourly, HOUR, 9 * HOUR + 100_000), Some(10 * HOUR));
        assert_eq!(next(&each_second, 1_000, 61_500), Some(2_000), "a late round skips nothing");
        assert_eq!(
            next(&each_second, 1_000, 500_500),
            Some(501_000),
            "an outage does not fire every second that was missed"
        );
        Ok(())
    }

    #[test]
    fn a_schedule_that_cannot_work_is_refused_with_what_to_change() {
        for (name, task, says) in [
            ("a b", r#"{"url":"http://h/"}"#, "not a valid schedule name"),
            ("", r#"{"url":"http://h/"}"#, "not a valid schedule name"),
            ("a", "x", "not a JSON object"),
            ("a", "[]", "not a JSON object"),
            ("a", "{}", "missing field `url`"),
            ("a", r#"{"url":"/v1"}"#, "use an absolute URL"),
            ("a", r#"{"url":"http://h/","id":null}"#, "`id`: omit it"),
            ("a", r#"{"url":"http://h/","run_at_ms":1}"#, "`delay_ms`"),
            ("a", r#"{"url":"http://h/","idempotency_key":"k"}"#, "the answer to an earlier one"),
        ] {
            let refused = check(name, task);
            assert!(refused.as_ref().is_err_and(|why| why.to_string().contains(says)), "{name} {task}: {refused:?}");
        }
        assert_eq!(check("a/b-1", " {\"url\":\"http://h/\"}\n"), Ok("{\"url\":\"http://h/\"}"));
        assert_eq!(id_at("a", UnixMs(1_795_503_600_000)), "a@2026-11-24T07:00:00Z");
    }
}
