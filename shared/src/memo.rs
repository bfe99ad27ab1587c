//! Memos: what the fleet remembers of a call under a key, while it is in flight and after it was answered.
//!
//! One mechanism for the cache, for sharing the answer of a call among all that ask for it, and for idempotency keys. The
//! first task under a key leads; those that come while it does follow ([`crate::consumer::ParkedTasks`]); those that come
//! later take the answer. A memo lies in a slot of its own, apart from its tasks: so its leader settles it first and is
//! answered after, and whoever is parked looks once more. In between a leader may die at any instant: asked again under its
//! serial, the memo knows it.

mod key;

use std::time::Duration;

pub use key::{MemoKey, MemoPurpose};

use crate::db::Db;
use crate::protocol::id::Token;
use crate::{Consumer, Error, QueueName, Status, TaskResult, UnixMs, script};

/// How long the answer under an idempotency key is held unless it is set otherwise: a day, as at Stripe.
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 3600 * 1000;

/// The memos that the tasks of one queue ask for.
#[derive(Debug, Clone)]
pub struct Memos {
    db: Db,
}

/// Who asks: a task, in one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Its name inside Redial.
    pub serial: &'a str,
    /// The fence of this delivery.
    pub token: &'a Token,
    /// The queue that it came from.
    pub queue: &'a QueueName,
}

/// On which terms a task asks to lead a memo.
#[derive(Debug, Clone, Copy)]
pub struct LeadTerms {
    /// An answer of this age or older does not count; `None`: any does.
    pub max_age: Option<Duration>,
    /// How long the task leads unless it asks again or settles.
    pub lease: Duration,
    /// No other task may make the call once this lead has ended in silence.
    pub once: bool,
}

/// What a memo says.
#[derive(Debug)]
pub enum LeadDecision {
    /// Make the call, and settle.
    Lead,
    /// Here is the answer.
    Answer(Box<KeptAnswer>),
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
pub struct KeptAnswer {
    /// The result of the task that got it, without what is that task's alone: id, meta, when it was pushed.
    pub result: TaskResult,
    /// That task's serial.
    pub by: String,
}

/// What became of a lead.
#[derive(Debug)]
pub enum LeadOutcome {
    /// It ended; these queues have followers.
    Done(Vec<QueueName>),
    /// An answer stands already: another task led meanwhile, or this was sent twice.
    Stands(Box<KeptAnswer>, Vec<QueueName>),
    /// Another task leads, or another delivery of this one: nothing was written.
    Lost,
}

/// An answer as it is kept: one line of JSON.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    json: String,
    is_good: bool,
}

impl StoredAnswer {
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
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Asks what a task is to do, and lets it lead, on these terms, if no other task does.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to ask again: a task that leads is told so again.
    pub async fn lead(&self, key: &MemoKey, delivery: Delivery<'_>, terms: LeadTerms) -> Result<LeadDecision, Error> {
        let call = self.ask("lead", &key.hash).arg(delivery.serial).arg(delivery.token.as_str()).arg(delivery.queue);
        let call = call.arg(&key.call).arg(age(terms.max_age)).arg(terms.lease.as_millis()).arg(u8::from(terms.once));
        self.standing(&call).await
    }

    /// The same for a task that leads already, perhaps, or was just parked as a follower: it does not begin to lead.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn recheck(
        &self,
        key: &MemoKey,
        delivery: Delivery<'_>,
        max_age: Option<Duration>,
    ) -> Result<LeadDecision, Error> {
        let call = self.ask("look", &key.hash).arg(delivery.serial).arg(delivery.token.as_str()).arg(delivery.queue);
        self.standing(&call.arg(&key.call).arg(age(max_age)).arg(0).arg(0)).await
    }

    /// The same for all the followers of a memo, of whom nothing else is known: an answer only when no one leads.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn check_on_leader(&self, hash: &str, queue: &QueueName) -> Result<LeadDecision, Error> {
        let call = self.ask("watch", hash).arg("").arg("").arg(queue);
        self.standing(&call.arg("").arg(age(None)).arg(0).arg(0)).await
    }

    /// Ends a lead: with an answer to be kept for a while, or with none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: then the answer stands already.
    pub async fn settle(
        &self,
        hash: &str,
        delivery: Delivery<'_>,
        answer: Option<(&StoredAnswer, Duration)>,
    ) -> Result<LeadOutcome, Error> {
        let (line, keep, good) = answer
            .map_or(("", 0, 0), |(line, keep)| (line.json.as_str(), keep.as_millis().max(1), u8::from(line.is_good)));
        let call = script::SETTLE
            .call()
            .key(self.db.keys().memo(hash))
            .arg(delivery.serial)
            .arg(delivery.token.as_str())
            .arg(line)
            .arg(keep)
            .arg(good);
        let mut words = self.db.invoke::<Vec<Vec<u8>>>(&call).await?.into_iter();
        let queues = |rest: std::vec::IntoIter<Vec<u8>>| {
            rest.filter_map(|name| QueueName::new(std::str::from_utf8(&name).ok()?).ok()).collect()
        };
        match words.next().as_deref() {
            Some(b"settled") => Ok(LeadOutcome::Done(queues(words))),
            Some(b"kept") => Ok(LeadOutcome::Stands(Box::new(kept(&mut words)?), queues(words))),
            _ => Ok(LeadOutcome::Lost),
        }
    }

    /// Ends the lead of a task that `consumer` has in hand, as [`settle`](Self::settle) does. A delivery of the same task that
    /// had lost its lease may have asked for the lead after this one, and stands as the leader: whoever holds the lease takes
    /// the lead back, as no one else would ever end it.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again.
    pub async fn settle_as_holder(
        &self,
        consumer: &Consumer,
        key: &MemoKey,
        delivery: Delivery<'_>,
        answer: Option<(&StoredAnswer, Duration)>,
    ) -> Result<LeadOutcome, Error> {
        let settled = self.settle(&key.hash, delivery, answer).await?;
        if !matches!(settled, LeadOutcome::Lost) || !consumer.held_tokens().await?.contains(delivery.token) {
            return Ok(settled);
        }
        match self.recheck(key, delivery, None).await? {
            LeadDecision::Lead => self.settle(&key.hash, delivery, answer).await,
            _ => Ok(settled),
        }
    }

    /// What a memo keeps, and until when; `None` when it keeps no answer.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn get(&self, hash: &str) -> Result<Option<(KeptAnswer, UnixMs)>, Error> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.db.keys().memo(hash)).arg("answer").arg("by").arg("fresh");
        let held: (Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>) =
            self.db.run(async |connection| get.query_async(connection).await).await?;
        let (Some(answer), Some(by), Some(fresh)) = held else { return Ok(None) };
        Ok(Some((kept(&mut [answer, by].into_iter())?, UnixMs(fresh))))
    }

    /// Whether a task leads a memo, making its call now or waiting to make it again.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn is_led(&self, hash: &str) -> Result<bool, Error> {
        let mut get = redis::cmd("HEXISTS");
        get.arg(self.db.keys().memo(hash)).arg("lead");
        self.db.run(async |connection| get.query_async(connection).await).await
    }

    /// Drops the answer that a memo keeps, whatever it is. `false`: there was nothing to drop.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget(&self, hash: &str) -> Result<bool, Error> {
        self.forget_if(hash, "any").await
    }

    /// Drops the failure that a memo keeps; a good answer stays. `false`: there was nothing to drop.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget_failure(&self, hash: &str) -> Result<bool, Error> {
        self.forget_if(hash, "failure").await
    }

    async fn forget_if(&self, hash: &str, kind: &str) -> Result<bool, Error> {
        let call = script::FORGET.call().key(self.db.keys().memo(hash)).arg(kind);
        self.db.invoke(&call).await
    }

    fn ask(&self, mode: &str, hash: &str) -> script::Invocation {
        script::LEAD.call().key(self.db.keys().memo(hash)).arg(mode)
    }

    async fn standing(&self, call: &script::Invocation) -> Result<LeadDecision, Error> {
        let mut words = self.db.invoke::<Vec<Vec<u8>>>(call).await?.into_iter();
        Ok(match words.next().as_deref() {
            Some(b"answer") => LeadDecision::Answer(Box::new(kept(&mut words)?)),
            Some(b"lead") => LeadDecision::Lead,
            Some(b"follow") => LeadDecision::Follow,
            Some(b"free") => LeadDecision::Free,
            Some(b"mismatch") => LeadDecision::Mismatch,
            Some(b"unknown") => LeadDecision::Unknown,
            _ => return Err(Error::Data("what a memo says".into())),
        })
    }
}

/// An age in milliseconds; without a bound, more than any answer's.
fn age(max: Option<Duration>) -> u128 {
    max.map_or(1 << 53, |max| max.as_millis())
}

fn kept(words: &mut impl Iterator<Item = Vec<u8>>) -> Result<KeptAnswer, Error> {
    let bad = || Error::Data("the answer that a memo keeps".into());
    let (answer, by) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
    let result = serde_json::from_slice(&answer).map_err(|_| bad())?;
    Ok(KeptAnswer { result, by: String::from_utf8(by).map_err(|_| bad())? })
}
