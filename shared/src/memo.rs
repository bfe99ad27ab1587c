//! Memos: what the fleet remembers of a call under a key, while it is in flight and after it was answered.
//!
//! One mechanism for the cache, for sharing the answer of a call among all that ask for it, and for idempotency keys. The
//! first task under a key leads; those that come while it does follow ([`crate::consumer::Followers`]); those that come
//! later take the answer. A memo lies in a slot of its own, apart from its tasks: so its leader settles it first and is
//! answered after, and whoever is parked looks once more. In between a leader may die at any instant: asked again under its
//! serial, the memo knows it.

mod key;

use std::time::Duration;

pub use key::{Key, Purpose};

use crate::id::Token;
use crate::{Consumer, Error, Queue, QueueName, Status, TaskResult, UnixMs, script};

/// How long the answer under an idempotency key is held unless it is set otherwise: a day, as at Stripe.
pub const HOLD_MS: u64 = 24 * 3600 * 1000;

/// The memos that the tasks of one queue ask for.
#[derive(Debug, Clone)]
pub struct Memos {
    queue: Queue,
}

/// Who asks: a task, in one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Its name inside Redial.
    pub serial: &'a str,
    /// The fence of this delivery.
    pub token: &'a Token,
}

/// What a memo says.
#[derive(Debug)]
pub enum Standing {
    /// Make the call, and settle.
    Lead,
    /// Here is the answer.
    Answer(Box<Kept>),
    /// Another task makes the call: wait for it.
    Follow,
    /// No one leads. Only for those who did not ask to.
    Free,
    /// It is of another call: the idempotency key was used twice.
    Mismatch,
    /// The leader is gone; it may have made a call that may not be made again.
    Unknown,
}

/// A kept answer.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The result of the task that got it, without what is that task's alone: id, meta, when it was pushed.
    pub result: TaskResult,
    /// That task's serial.
    pub by: String,
}

/// What became of a lead.
#[derive(Debug)]
pub enum Settled {
    /// It ended; these queues have followers.
    Done(Vec<QueueName>),
    /// An answer stands already: another task led meanwhile, or this was sent twice.
    Stands(Box<Kept>, Vec<QueueName>),
    /// Another task leads, or another delivery of this one: nothing was written.
    Lost,
}

/// An answer as it is kept: one line of JSON.
#[derive(Debug, Clone)]
pub struct Line {
    json: String,
    is_good: bool,
}

impl Line {
    /// What is kept of a result.
    pub fn of(result: &TaskResult) -> Self {
        let shared = TaskResult { id: None, meta: None, enqueued_at_ms: None, ..result.clone() };
        Self { json: shared.to_line(), is_good: result.status == Status::Ok }
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }
}

impl Memos {
    /// Those that tasks of `queue` ask for.
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    /// Asks what a task is to do, and has it lead, for `lease`, if no one does. An answer of `max_age` or more is none;
    /// `once`: the call may not be made again by another task when this one's lead has ended in silence.
    ///
    /// # Errors
    /// That of Redis. Safe to ask again: a task that leads is told so again.
    pub async fn lead(
        &self,
        key: &Key,
        asker: Asker<'_>,
        max_age: Option<Duration>,
        lease: Duration,
        once: bool,
    ) -> Result<Standing, Error> {
        let call = self.ask("lead", &key.hash).arg(asker.serial).arg(asker.token.as_str()).arg(self.queue.name());
        let call = call.arg(&key.call).arg(age(max_age)).arg(lease.as_millis()).arg(u8::from(once));
        self.standing(&call).await
    }

    /// The same for a task that leads already, perhaps, or was just parked as a follower: it does not begin to lead.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn look(&self, key: &Key, asker: Asker<'_>, max_age: Option<Duration>) -> Result<Standing, Error> {
        let call = self.ask("look", &key.hash).arg(asker.serial).arg(asker.token.as_str()).arg(self.queue.name());
        self.standing(&call.arg(&key.call).arg(age(max_age)).arg(0).arg(0)).await
    }

    /// The same for all the followers of a memo, of whom nothing else is known: an answer only when no one leads.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn watch(&self, hash: &str) -> Result<Standing, Error> {
        let call = self.ask("watch", hash).arg("").arg("").arg(self.queue.name());
        self.standing(&call.arg("").arg(age(None)).arg(0).arg(0)).await
    }

    /// Ends a lead: with an answer to be kept for a while, or with none.
    ///
    /// # Errors
    /// That of Redis. Safe to send again: then the answer stands already.
    pub async fn settle(
        &self,
        hash: &str,
        asker: Asker<'_>,
        answer: Option<(&Line, Duration)>,
    ) -> Result<Settled, Error> {
        let (line, keep, good) = answer
            .map_or(("", 0, 0), |(line, keep)| (line.json.as_str(), keep.as_millis().max(1), u8::from(line.is_good)));
        let call = script::SETTLE
            .call()
            .key(self.queue.keys.memo(hash))
            .arg(asker.serial)
            .arg(asker.token.as_str())
            .arg(line)
            .arg(keep)
            .arg(good);
        let mut words = self.queue.run::<Vec<Vec<u8>>>(&call).await?.into_iter();
        let queues = |rest: std::vec::IntoIter<Vec<u8>>| {
            rest.filter_map(|name| QueueName::new(std::str::from_utf8(&name).ok()?).ok()).collect()
        };
        match words.next().as_deref() {
            Some(b"settled") => Ok(Settled::Done(queues(words))),
            Some(b"kept") => Ok(Settled::Stands(Box::new(kept(&mut words)?), queues(words))),
            _ => Ok(Settled::Lost),
        }
    }

    /// Ends the lead of a task that `consumer` has in hand, as [`settle`](Self::settle) does. A delivery of the same task that
    /// had lost its lease may have asked for the lead after this one, and stands as the leader: whoever holds the lease takes
    /// the lead back, as no one else would ever end it.
    ///
    /// # Errors
    /// That of Redis. Safe to send again.
    pub async fn settle_held(
        &self,
        consumer: &Consumer,
        key: &Key,
        asker: Asker<'_>,
        answer: Option<(&Line, Duration)>,
    ) -> Result<Settled, Error> {
        let settled = self.settle(&key.hash, asker, answer).await?;
        if !matches!(settled, Settled::Lost) || !consumer.held().await?.contains(asker.token) {
            return Ok(settled);
        }
        match self.look(key, asker, None).await? {
            Standing::Lead => self.settle(&key.hash, asker, answer).await,
            _ => Ok(settled),
        }
    }

    /// What a memo keeps, and until when; `None` when it keeps no answer.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn get(&self, hash: &str) -> Result<Option<(Kept, UnixMs)>, Error> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.queue.keys.memo(hash)).arg("answer").arg("by").arg("fresh");
        let held: (Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>) =
            self.queue.link.run(async |wire| get.query_async(wire).await).await?;
        let (Some(answer), Some(by), Some(fresh)) = held else { return Ok(None) };
        Ok(Some((kept(&mut [answer, by].into_iter())?, UnixMs(fresh))))
    }

    /// Whether a task leads a memo, making its call now or waiting to make it again.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn is_led(&self, hash: &str) -> Result<bool, Error> {
        let mut get = redis::cmd("HEXISTS");
        get.arg(self.queue.keys.memo(hash)).arg("lead");
        self.queue.link.run(async |wire| get.query_async(wire).await).await
    }

    /// Drops what a memo keeps; with `failures_only` a good answer stays. `false`: there was nothing to drop.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn forget(&self, hash: &str, failures_only: bool) -> Result<bool, Error> {
        let what = if failures_only { "failure" } else { "any" };
        let call = script::FORGET.call().key(self.queue.keys.memo(hash)).arg(what);
        self.queue.run(&call).await
    }

    fn ask(&self, mode: &str, hash: &str) -> script::Call {
        script::LEAD.call().key(self.queue.keys.memo(hash)).arg(mode)
    }

    async fn standing(&self, call: &script::Call) -> Result<Standing, Error> {
        let mut words = self.queue.run::<Vec<Vec<u8>>>(call).await?.into_iter();
        Ok(match words.next().as_deref() {
            Some(b"answer") => Standing::Answer(Box::new(kept(&mut words)?)),
            Some(b"lead") => Standing::Lead,
            Some(b"follow") => Standing::Follow,
            Some(b"free") => Standing::Free,
            Some(b"mismatch") => Standing::Mismatch,
            Some(b"unknown") => Standing::Unknown,
            _ => return Err(Error::Data("what a memo says".into())),
        })
    }
}

/// An age in milliseconds; without a bound, more than any answer's.
fn age(max: Option<Duration>) -> u128 {
    max.map_or(1 << 53, |max| max.as_millis())
}

fn kept(words: &mut impl Iterator<Item = Vec<u8>>) -> Result<Kept, Error> {
    let bad = || Error::Data("the answer that a memo keeps".into());
    let (answer, by) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
    let result = serde_json::from_slice(&answer).map_err(|_| bad())?;
    Ok(Kept { result, by: String::from_utf8(by).map_err(|_| bad())? })
}
