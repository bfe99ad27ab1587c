//! What a task leaves behind when it ends, as scripts get it.

use redis::{FromRedisValue, ParsingError, Value};

use super::{Invocation, Rest};

/// The tasks of [`Finish`](super::task::Finish).
#[derive(Debug, Clone, Copy)]
pub struct FinishedTasks<'a>(pub &'a [FinishedTask<'a>]);

/// A task of [`Finish`](super::task::Finish).
#[derive(Debug, Clone)]
pub struct FinishedTask<'a> {
    /// The fence: the field that holds it.
    pub token: &'a str,
    /// What to store and deliver.
    pub ending: Ending<'a>,
}

/// What a task leaves behind when it ends.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The key of the result.
    pub result_key: &'a str,
    /// How long result and reply are kept.
    pub ttl_ms: u64,
    /// The result as JSON.
    pub result: &'a str,
    /// How the reply is delivered.
    pub reply: ReplyRoute<'a>,
    /// What ends its stream, if it has one.
    pub stream: Option<StreamEnding<'a>>,
    /// The tasks that are pushed with it.
    pub follow_ups: &'a [String],
}

/// What ends the stream of a task.
#[derive(Debug, Clone, Copy)]
pub struct StreamEnding<'a> {
    /// The key of the stream.
    pub key: &'a str,
    /// The type of its last entry, a space, and its data.
    pub last_entry: &'a str,
}

/// How a reply gets to its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyRoute<'a> {
    /// The task asked for no reply.
    None,
    /// The same, and its result was uploaded to this key: it is moved from there, and the script gets an empty one.
    Uploaded(&'a str),
    /// The same script pushes it to this list.
    Push(&'a str),
    /// A worker pushes it later, because this list is in another Cluster slot.
    Later(&'a str),
}

impl Ending<'_> {
    /// Nothing but the result.
    fn is_plain(&self) -> bool {
        self.reply == ReplyRoute::None && self.stream.is_none() && self.follow_ups.is_empty()
    }

    pub(super) fn push_outcome(&self, call: &mut Invocation) {
        call.arg(&self.ttl_ms);
        call.arg(&self.result);
        self.push_deliveries(call);
    }

    /// Where the result goes besides its key.
    fn push_deliveries(&self, call: &mut Invocation) {
        let (mode, list) = match self.reply {
            ReplyRoute::None => ("none", ""),
            ReplyRoute::Uploaded(key) => ("uploaded", key),
            ReplyRoute::Push(list) => ("push", list),
            ReplyRoute::Later(list) => ("later", list),
        };
        call.arg(&mode);
        call.arg(&list);
        call.arg(&self.stream.map_or("", |stream| stream.last_entry));
    }
}

impl Rest for Ending<'_> {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        keys.push(self.result_key);
        if let ReplyRoute::Push(key) | ReplyRoute::Uploaded(key) = self.reply {
            keys.push(key);
        }
        if let Some(stream) = self.stream {
            keys.push(stream.key);
        }
    }

    fn push_args(&self, call: &mut Invocation) {
        self.push_outcome(call);
        self.follow_ups.push_args(call);
    }
}

impl Rest for FinishedTasks<'_> {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        for task in self.0 {
            task.ending.push_keys(keys);
        }
    }

    fn push_args(&self, call: &mut Invocation) {
        // Redis copies and hashes each string that enters a script. Most tasks end alike, and so share what is the same.
        let end_alike = |a: &FinishedTask<'_>, b: &FinishedTask<'_>| {
            a.ending.is_plain() && b.ending.is_plain() && a.ending.ttl_ms == b.ending.ttl_ms
        };
        for group in self.0.chunk_by(end_alike) {
            let ending = &group[0].ending;
            call.arg(&group.len());
            call.arg(&ending.ttl_ms);
            ending.push_deliveries(call);
            call.arg(&ending.follow_ups.len());
            ending.follow_ups.push_args(call);
            for task in group {
                call.arg(&task.token);
                call.arg(&task.ending.result);
            }
        }
    }
}

/// Which tasks of a [`Finish`](super::task::Finish) were no longer held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostTasks(Vec<usize>);

impl LostTasks {
    /// For each of so many tasks: whether it was still held.
    pub fn were_held(&self, tasks: usize) -> Vec<bool> {
        // A batch is small, and hardly ever is one of it lost.
        (1..=tasks).map(|number| !self.0.contains(&number)).collect()
    }
}

impl FromRedisValue for LostTasks {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        Vec::from_redis_value(reply).map(Self)
    }
}
