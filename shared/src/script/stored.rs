//! Tasks that no worker holds: checks that are due, and the search for a task.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::ending::Ending;
use super::{Invocation, Rest, Values, typed_calls};
use crate::UnixMs;
use crate::protocol::id::Token;

typed_calls! {
    /// Lists the wait lists that are due for a check, and the stored tasks whose deadline has passed.
    DueChecks = "task/due_checks" + ["clock", "types", "out_of_memory"] -> DueChecksReply {
        keys: watch, stored;
        args: recheck_in_ms: u64, max_checks: usize, max_bytes: usize;
    }

    /// Sets when a wait list is checked next, unless it is empty. Returns how many tasks it has.
    WatchList = "task/watch_list" + ["clock", "types", "out_of_memory"] -> usize {
        keys: wait_list, watch;
        args: list_name: &'a str, check_in_ms: u64;
    }

    /// Ends stored tasks as dead letters. For each: whether it was still stored.
    BuryStored = "task/bury_stored" + ["clock", "types", "follow_up", "count", "entry", "reply_list", "store_result", "stream", "notify"] -> Vec<bool> {
        keys: stored, scheduled, watch, dead, stats, replies, waiters, waiting;
        args: ;
        rest tasks: &'a [BuriedTask<'a>] = [serial, letter_header, ttl_ms, result, reply_mode, reply_list, last_entry, follow_up_count];
    }

    /// Searches a page of waiting tasks for an id, and takes the task off its list if asked to.
    FindWaiting = "task/find_waiting" + ["clock", "types", "find_id"] -> FindWaitingReply {
        keys: list, stored, scheduled;
        args: id: &'a str, json_id: &'a str, skip: usize, max_tasks: usize, serial: &'a str, hold_ms: u64;
    }

    /// Searches some of the tasks that a hash holds for those that may have an id.
    FindEntry = "task/find_entry" + ["find_id"] -> FindEntryReply {
        keys: held;
        args: json_id: &'a str, first_seen_ms: Option<UnixMs>, cursor: &'a str, max_tasks: usize, max_bytes: usize;
    }
}

/// A task of [`BuryStored`].
#[derive(Debug, Clone)]
pub struct BuriedTask<'a> {
    /// The fence: the field that holds it.
    pub serial: &'a str,
    /// The header of its dead letter.
    pub letter_header: &'a str,
    /// What to store and deliver; `None` if its id could not be read.
    pub ending: Option<Ending<'a>>,
}

impl Rest for BuriedTask<'_> {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        self.ending.push_keys(keys);
    }

    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.serial);
        call.arg(&self.letter_header);
        let Some(ending) = &self.ending else {
            for nothing in ["0", "", "no_result", "", "", "0"] {
                call.arg(&nothing);
            }
            return;
        };
        ending.push_outcome(call);
        call.arg(&ending.follow_ups.len());
        ending.follow_ups.push_args(call);
    }
}

/// The checks that are due.
#[derive(Debug, PartialEq)]
pub struct DueChecksReply {
    /// When the next one is due.
    pub next_in: Option<Duration>,
    /// The words of a wait list and no bytes, or the serial of a task and its entry.
    pub due: Vec<(String, Vec<u8>)>,
}

impl FromRedisValue for DueChecksReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let next_in_ms: i64 = values.next()?;
        let next_in = u64::try_from(next_in_ms).ok().map(Duration::from_millis);
        let mut due = Vec::new();
        while !values.is_empty() {
            due.push((values.next()?, values.next()?));
        }
        Ok(Self { next_in, due })
    }
}

/// A page of waiting tasks that was searched.
#[derive(Debug, PartialEq, Eq)]
pub struct FindWaitingReply {
    /// How many tasks the page has.
    pub tasks: usize,
    /// How many bytes of them were searched.
    pub bytes: usize,
    /// How many tasks will be claimed before the one that has the id.
    pub before: Option<usize>,
    /// The entry of that task, if it was taken.
    pub taken: Option<Vec<u8>>,
}

impl FromRedisValue for FindWaitingReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let (tasks, bytes, before) = (values.next()?, values.next()?, values.next::<i64>()?);
        let entry: Vec<u8> = values.next()?;
        Ok(Self { tasks, bytes, before: usize::try_from(before).ok(), taken: (!entry.is_empty()).then_some(entry) })
    }
}

/// Some tasks of a hash that were searched.
#[derive(Debug, PartialEq, Eq)]
pub struct FindEntryReply {
    /// Where to go on; `0` after the last task.
    pub cursor: String,
    /// How many tasks were searched.
    pub tasks: usize,
    /// Token and entry of those that may have the id.
    pub candidates: Vec<(Token, Vec<u8>)>,
}

impl FromRedisValue for FindEntryReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let (cursor, tasks) = (values.next()?, values.next()?);
        let mut candidates = Vec::new();
        while !values.is_empty() {
            candidates.push((Token(values.next()?), values.next()?));
        }
        Ok(Self { cursor, tasks, candidates })
    }
}
