//! Schedules: tasks that are pushed by the clock, each time once by the whole fleet.
//!
//! A schedule lies in its queue's slot: its definition in a hash, when it fires next in a sorted set. Any worker that sees
//! that its time has come works out the time after it and sends both; one script compares, pushes and moves on, so that of all
//! who try one succeeds, and a worker that dies before has done nothing.

mod when;

use std::time::{Duration, Instant};

use serde_json::value::RawValue;

pub use when::When;

use crate::protocol::task;
use crate::script::schedule::{DueSchedule, DueSchedules, FireSchedule, ListDueSchedules, PutSchedule, RemoveSchedule};
use crate::{Error, Queue, TaskId, UnixMs};

/// The most schedules that are fired in one round.
const MOST: usize = 100;
/// Times that were missed are made up for each on its own up to this age: longer than any fleet needs to notice a worker's death.
/// Of older ones, which mean that there was no fleet, one is made up for.
const CATCH_UP_MS: u64 = 60_000;
/// Room for what a firing adds to a task.
const ROOM: usize = 512;

/// The schedules of one queue.
#[derive(Debug, Clone)]
pub struct Schedules {
    queue: Queue,
}

/// A schedule as it stands.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub when: When,
    /// When it fires next; `None`: never again.
    pub next: Option<UnixMs>,
    /// The task, as it was given.
    pub task: String,
}

/// A task that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The schedule.
    pub name: String,
    /// The task's id.
    pub id: TaskId,
    /// How late it was, in ms.
    pub late_ms: u64,
}

/// What one look brought.
#[derive(Debug)]
pub struct FiringRound {
    /// What this worker pushed.
    pub fired: Vec<Fired>,
    /// Schedules that can't be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// How long until the next time that is known of.
    pub next_in: Option<Duration>,
}

impl Schedules {
    /// Those of a queue.
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    /// Puts a schedule down, in place of one of this name. Returns when it fires next: as before where only its task is another.
    ///
    /// # Errors
    /// What is wrong with it, as [`Error::Name`]; or that of Redis.
    pub async fn add(&self, name: &str, when: &When, task: &str) -> Result<UnixMs, Error> {
        let task = check(name, task).map_err(Error::Name)?;
        let next =
            when.after(self.queue.db.now().await?).ok_or_else(|| Error::Name(format!("{when} never fires again")))?;
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

    /// Takes a schedule away. `false`: there is none of this name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn remove(&self, name: &str) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        self.queue.db.call(&RemoveSchedule { schedules: &keys.schedules, firings: &keys.firings, name }).await
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// That of Redis, or [`Error::Data`] when one can't be read.
    pub async fn list(&self) -> Result<Vec<Schedule>, Error> {
        let keys = &self.queue.keys;
        let mut ask = redis::pipe();
        ask.cmd("HGETALL").arg(&keys.schedules).cmd("ZRANGE").arg(&keys.firings).arg(0).arg(-1).arg("WITHSCORES");
        let (all, times): (std::collections::BTreeMap<String, String>, std::collections::HashMap<String, u64>) =
            self.queue.db.run(async |connection| ask.query_async(connection).await).await?;
        let read = |(name, text): (String, String)| {
            let bad = || Error::Data(format!("the schedule {name}"));
            let (header, task) = text.split_once('\n').ok_or_else(bad)?;
            let when = When::parse(header).map_err(|_| bad())?;
            let next = times.get(&name).copied().map(UnixMs);
            Ok(Schedule { when, next, task: task.to_owned(), name })
        };
        all.into_iter().map(read).collect()
    }

    /// Fires those whose time has come and that no one else has fired.
    ///
    /// # Errors
    /// That of Redis; what was not fired stays due.
    pub async fn fire_due(&self) -> Result<FiringRound, Error> {
        let keys = &self.queue.keys;
        let asked = Instant::now();
        let call = ListDueSchedules { schedules: &keys.schedules, firings: &keys.firings, max_schedules: MOST };
        let DueSchedules { now, next_at, due } = self.queue.db.call(&call).await?;
        let mut round = FiringRound { fired: Vec::new(), unreadable: Vec::new(), next_in: None };
        let mut next = next_at;
        for DueSchedule { name, due_at: due, header } in due {
            let when = match When::parse(&header) {
                Ok(when) => when,
                Err(why) => {
                    round.unreadable.push((name, why));
                    continue;
                }
            };
            let then = following(&when, due, now);
            if let Some(id) = self.fire(&name, &header, due, then, now).await? {
                round.fired.push(Fired { name, id, late_ms: now.since(due) });
            }
            next = [next, then].into_iter().flatten().min();
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
        then: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<Option<TaskId>, Error> {
        let keys = &self.queue.keys;
        let id = TaskId::new(&id_at(name, due)).map_err(Error::Name)?;
        let call = FireSchedule {
            schedules: &keys.schedules,
            firings: &keys.firings,
            waiting: &keys.waiting,
            stats: &keys.stats,
            name,
            header,
            due_at_ms: due,
            next_at_ms: then,
            task_start: &head(&id, now),
        };
        let fired = self.queue.db.call(&call).await?;
        Ok(fired.then_some(id))
    }
}

/// The time after one that is fired now.
fn following(when: &When, due: UnixMs, now: UnixMs) -> Option<UnixMs> {
    let next = when.after(due)?;
    if now.since(next) > CATCH_UP_MS { when.after(now) } else { Some(next) }
}

/// The id of the task of a schedule at a time: the same for whoever pushes it.
fn id_at(name: &str, due: UnixMs) -> String {
    format!("{name}@{}", when::rfc3339(due))
}

fn head(id: &TaskId, now: UnixMs) -> String {
    format!("{{\"id\":\"{id}\",\"enqueued_at_ms\":{now},")
}

/// Checks a schedule's name and its task, as it will be pushed. Returns the task without white space around it.
fn check<'a>(name: &str, task: &'a str) -> Result<&'a str, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        return Err(format!("{name:?} is no name for a schedule: use 1 to 100 letters, digits, `.`, `_`, `-` or `/`"));
    }
    let task = task.trim();
    let given: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(task).map_err(|error| format!("the task is no JSON object: {error}"))?;
    for (field, instead) in [
        ("id", "each firing has its own, the schedule's name and the time"),
        ("enqueued_at_ms", "each firing has its own"),
        ("run_at_ms", "the schedule says when; `delay_ms` counts from each firing"),
        ("expires_at_ms", "use `ttl_ms`, which counts from each firing"),
        (
            "idempotency_key",
            "a later firing under the same key would make no call, and get the answer to an earlier one",
        ),
    ] {
        if given.contains_key(field) {
            return Err(format!("the task has `{field}`: leave it out, {instead}"));
        }
    }
    let parse =
        |json: &str| task::Task::parse(json.as_bytes(), task::MAX_BYTES - ROOM).map_err(|refusal| refusal.error);
    parse(task)?;
    // A field of another spelling may still clash with what a firing adds.
    let sample = TaskId::new(&id_at(name, UnixMs::default()))?;
    parse(&format!("{}{}", head(&sample, UnixMs::default()), task.strip_prefix('{').unwrap_or_default()))?;
    Ok(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_time_that_was_missed_is_made_up_for_once_and_those_of_the_last_minute_each() -> Result<(), String> {
        let (hourly, each_second) = (When::new("@hourly", None)?, When::new("* * * * * *", None)?);
        let next = |when, due, now| following(when, UnixMs(due), UnixMs(now)).map(|at| at.0);
        assert_eq!(next(&hourly, HOUR, HOUR + 5), Some(2 * HOUR));
        assert_eq!(next(&hourly, HOUR, 9 * HOUR + 100_000), Some(10 * HOUR));
        assert_eq!(next(&each_second, 1_000, 61_500), Some(2_000), "a late look skips nothing");
        assert_eq!(next(&each_second, 1_000, 500_500), Some(501_000), "an outage is not made up for second by second");
        Ok(())
    }

    #[test]
    fn a_schedule_that_can_not_work_is_refused_with_what_to_do() {
        for (name, task, says) in [
            ("a b", r#"{"url":"http://h/"}"#, "no name for a schedule"),
            ("", r#"{"url":"http://h/"}"#, "no name for a schedule"),
            ("a", "x", "no JSON object"),
            ("a", "[]", "no JSON object"),
            ("a", "{}", "missing field `url`"),
            ("a", r#"{"url":"/v1"}"#, "give it whole"),
            ("a", r#"{"url":"http://h/","id":null}"#, "`id`: leave it out"),
            ("a", r#"{"url":"http://h/","run_at_ms":1}"#, "`delay_ms`"),
            ("a", r#"{"url":"http://h/","idempotency_key":"k"}"#, "answer to an earlier one"),
        ] {
            let refused = check(name, task);
            assert!(refused.as_ref().is_err_and(|why| why.contains(says)), "{name} {task}: {refused:?}");
        }
        assert_eq!(check("a/b-1", " {\"url\":\"http://h/\"}\n"), Ok("{\"url\":\"http://h/\"}"));
        assert_eq!(id_at("a", UnixMs(1_795_503_600_000)), "a@2026-11-24T07:00:00Z");
    }
}
