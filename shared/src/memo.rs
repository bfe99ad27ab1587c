//! Memos: what the fleet remembers of a call under a key, while it is in flight and after it was answered.
//!
//! One mechanism serves the cache, shares one call among all tasks that ask for it, and implements idempotency keys. The first task
//! under a key leads: it makes the call. Tasks that arrive meanwhile follow ([`crate::consumer::ParkedTasks`]), and later ones take
//! the answer. A memo is in a Cluster slot of its own, apart from its tasks. Its leader therefore settles the memo first and is
//! completed after that, and a task that was just parked checks the memo once more. If a leader dies in between, its next
//! delivery asks under the same serial, and the memo recognizes it.

mod answer;
mod key;

use std::sync::Arc;
use std::time::Duration;

pub use answer::StoredAnswer;
pub use key::{MemoKey, MemoPurpose, upstream_key};
use redis::ParsingError;

use crate::consumer::ParkedTasks;
use crate::db::Db;
use crate::protocol::id::Token;
use crate::script::memo::{EachReply, Forget, Lead, Settle};
use crate::script::memo_value::MemoValue;
use crate::script::millis;
use crate::{Consumer, Error, QueueName, UnixMs};

pub use crate::script::memo::{KeptAnswer, LeadDecision, LeadOutcome, LeadRequest, SettleRequest};

/// How long the answer under an idempotency key is kept by default: a day, as at Stripe.
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 3600 * 1000;
/// More than the age of any answer.
const ANY_AGE_MS: u64 = 1 << 53;

/// The memos of a fleet.
#[derive(Debug, Clone)]
pub struct Memos {
    db: Db,
}

/// A task that asks a memo, in one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The task's name inside Redial.
    pub serial: &'a str,
    /// The fence of this delivery.
    pub token: &'a Token,
    /// The queue it came from.
    pub queue: &'a QueueName,
}

/// On which terms a task asks to lead a memo.
#[derive(Debug, Clone, Copy)]
pub struct LeadTerms {
    /// Answers of this age or older do not count; `None`: any answer does.
    pub max_age: Option<Duration>,
    /// How long the task leads, unless it asks again or settles.
    pub lease: Duration,
    /// The call is about to be sent and may not be made twice: no other task may make it if this lead ends without being settled.
    pub once: bool,
    /// For how long the answer will be kept, as far as is known.
    pub keep: Duration,
}

impl Db {
    /// The memos that the fleet shares: the cache, and the answers kept under idempotency keys.
    pub fn memos(&self) -> Memos {
        Memos::new(self.clone())
    }
}

impl Memos {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Whether each memo may be on another node, that of its hash slot in a Cluster. Then no call can be about several.
    pub fn are_spread(&self) -> bool {
        self.db.is_cluster()
    }

    /// Whether a memo is on a node of a Cluster that does not answer, as far as it is known.
    pub fn is_away(&self, key: &MemoKey) -> bool {
        self.db.is_away(|| self.db.keys().memo(&key.hash))
    }

    /// What a task asks that leads on these terms if no other task does.
    pub fn lead_request(&self, key: &MemoKey, delivery: Delivery<'_>, terms: LeadTerms) -> LeadRequest {
        LeadRequest {
            lease_ms: millis(terms.lease),
            once: terms.once,
            keep_ms: millis(terms.keep),
            ..self.ask("lead", &key.hash, &key.call, delivery, terms.max_age)
        }
    }

    /// What a task asks that may lead already, or that was just parked as a follower: it does not begin to lead.
    pub fn recheck_request(&self, key: &MemoKey, delivery: Delivery<'_>, max_age: Option<Duration>) -> LeadRequest {
        self.ask("recheck", &key.hash, &key.call, delivery, max_age)
    }

    /// The end of a lead: with an answer to be stored for a while, or without one.
    pub fn settle_request(
        &self,
        hash: &str,
        delivery: Delivery<'_>,
        answer: Option<(&StoredAnswer, Duration)>,
    ) -> SettleRequest {
        let (answer, ttl_ms, is_good) = answer.map_or((Arc::default(), 0, false), |(stored, ttl)| {
            (stored.json.clone(), millis(ttl).max(1), stored.is_good)
        });
        SettleRequest {
            memo: self.db.keys().memo(hash),
            serial: delivery.serial.to_owned(),
            token: delivery.token.as_str().to_owned(),
            answer,
            ttl_ms,
            is_good,
        }
    }

    /// Asks memos what tasks should do. Returns what came of each request, in order. On a Cluster, all must be about one memo.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: a task that leads gets the same answer again.
    pub async fn lead_all(&self, requests: &[LeadRequest]) -> Result<Vec<Result<LeadDecision, Error>>, Error> {
        let EachReply(replies) = self.db.call(&Lead { requests }).await?;
        complete(replies, requests.len())
    }

    /// Ends leads. Returns what came of each request, in order. On a Cluster, all must be about one memo.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: then an answer is stored already.
    pub async fn settle_all(&self, requests: &[SettleRequest]) -> Result<Vec<Result<LeadOutcome, Error>>, Error> {
        let EachReply(replies) = self.db.call(&Settle { requests }).await?;
        complete(replies, requests.len())
    }

    /// Asks what a task should do, and lets it lead on these terms if no other task does.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: a task that leads gets the same answer again.
    pub async fn lead(&self, key: &MemoKey, delivery: Delivery<'_>, terms: LeadTerms) -> Result<LeadDecision, Error> {
        only(self.lead_all(&[self.lead_request(key, delivery, terms)]).await?)
    }

    /// The same for a task that may lead already, or that was just parked as a follower: it does not begin to lead.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn recheck(
        &self,
        key: &MemoKey,
        delivery: Delivery<'_>,
        max_age: Option<Duration>,
    ) -> Result<LeadDecision, Error> {
        only(self.lead_all(&[self.recheck_request(key, delivery, max_age)]).await?)
    }

    /// The same on behalf of all followers of a memo, of which only their queue is known: an answer only if no task leads.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn check_on_leader(&self, hash: &str, queue: &QueueName) -> Result<LeadDecision, Error> {
        let nobody = Delivery { serial: "", token: &Token(String::new()), queue };
        only(self.lead_all(&[self.ask("check_leader", hash, "", nobody, None)]).await?)
    }

    /// Ends a lead: with an answer to be stored for a while, or without one.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: then the answer is stored already.
    pub async fn settle(
        &self,
        hash: &str,
        delivery: Delivery<'_>,
        answer: Option<(&StoredAnswer, Duration)>,
    ) -> Result<LeadOutcome, Error> {
        only(self.settle_all(&[self.settle_request(hash, delivery, answer)]).await?)
    }

    /// Ends a lead that another delivery has, if `consumer` holds the task. An earlier delivery of the same task that had lost its lease
    /// may have asked for the lead after this one, and then counts as the leader. Whoever holds the lease takes the lead back, because
    /// no one else would ever end it.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again.
    pub async fn settle_lost(
        &self,
        consumer: &Consumer,
        key: &MemoKey,
        delivery: Delivery<'_>,
        answer: Option<(&StoredAnswer, Duration)>,
    ) -> Result<LeadOutcome, Error> {
        if !consumer.held_tokens().await?.contains(delivery.token) {
            return Ok(LeadOutcome::Lost);
        }
        match self.recheck(key, delivery, None).await? {
            LeadDecision::Lead => self.settle(&key.hash, delivery, answer).await,
            _ => Ok(LeadOutcome::Lost),
        }
    }

    /// Ends the lead of a task that is itself parked in `followers`, the wait list behind this memo. `false`: no such task leads.
    ///
    /// A parked task has no live delivery. Its lead was taken by a delivery that had lost its lease and did not know it yet; should
    /// that worker die, nobody would end the lead before its time is up, and the task would wait for itself. A call that may be made
    /// only once cannot have been made under such a lead: its start is recorded first, and that needs the lease.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn end_lead_of_parked(&self, hash: &str, followers: &ParkedTasks) -> Result<bool, Error> {
        let Some((serial, token)) = self.leader(hash).await? else { return Ok(false) };
        if !followers.contains(&serial).await? {
            return Ok(false);
        }
        // The token fences this: a delivery that asks for the lead meanwhile brings its own.
        let delivery = Delivery { serial: &serial, token: &token, queue: followers.queue().name() };
        Ok(!matches!(self.settle(hash, delivery, None).await?, LeadOutcome::Lost))
    }

    /// A request on behalf of one task, which does not ask to lead yet.
    fn ask(
        &self,
        mode: &'static str,
        hash: &str,
        fingerprint: &str,
        delivery: Delivery<'_>,
        max_age: Option<Duration>,
    ) -> LeadRequest {
        LeadRequest {
            memo: self.db.keys().memo(hash),
            mode,
            serial: delivery.serial.to_owned(),
            token: delivery.token.as_str().to_owned(),
            queue: delivery.queue.as_str().to_owned(),
            fingerprint: fingerprint.to_owned(),
            max_age_ms: max_age.map_or(ANY_AGE_MS, millis),
            lease_ms: 0,
            once: false,
            keep_ms: 0,
        }
    }

    /// The answer that a memo stores, and when it expires; `None` if it stores none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. [`Error::Data`] if the answer cannot be read.
    pub async fn get(&self, hash: &str) -> Result<Option<(KeptAnswer, UnixMs)>, Error> {
        let mut get = redis::cmd("GET");
        get.arg(self.db.keys().memo(hash));
        let value: Option<Vec<u8>> = self.db.run(async |connection| get.query_async(connection).await).await?;
        let Some(value) = value else { return Ok(None) };
        let memo = MemoValue::parse(&value).map_err(|error| unreadable(hash, &error))?;
        if memo.answer.is_empty() {
            return Ok(None);
        }
        let answer = KeptAnswer::of(&memo).map_err(|error| unreadable(hash, &error))?;
        Ok(Some((answer, memo.expires_at)))
    }

    /// Whether a task leads a memo: it makes its call now, or waits to make it again.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. [`Error::Data`] if the memo cannot be read.
    pub async fn is_led(&self, hash: &str) -> Result<bool, Error> {
        Ok(self.leader(hash).await?.is_some())
    }

    /// The task that leads a memo, and the token of its delivery.
    async fn leader(&self, hash: &str) -> Result<Option<(String, Token)>, Error> {
        let mut read = redis::cmd("GETRANGE");
        read.arg(self.db.keys().memo(hash)).arg(0).arg(MemoValue::MAX_HEAD_BYTES - 1);
        let head: Vec<u8> = self.db.run(async |connection| read.query_async(connection).await).await?;
        if head.is_empty() {
            return Ok(None);
        }
        let memo = MemoValue::parse(&head).map_err(|error| unreadable(hash, &error))?;
        Ok(memo.lead.map(|(serial, token)| (serial.to_owned(), Token(token.to_owned()))))
    }

    /// Drops the answer that a memo stores, whatever it is. `false`: there was none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget(&self, hash: &str) -> Result<bool, Error> {
        self.db.call(&Forget { key: &self.db.keys().memo(hash), what: "any" }).await
    }

    /// Drops the failure that a memo stores; a good answer stays. `false`: there was no failure.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn forget_failure(&self, hash: &str) -> Result<bool, Error> {
        self.db.call(&Forget { key: &self.db.keys().memo(hash), what: "failure" }).await
    }
}

fn unreadable(hash: &str, error: &ParsingError) -> Error {
    Error::Data(format!("memo {hash}: {error}"))
}

/// The replies, one for each request.
fn complete<T>(replies: Vec<Result<T, Error>>, requests: usize) -> Result<Vec<Result<T, Error>>, Error> {
    if replies.len() == requests {
        return Ok(replies);
    }
    Err(Error::Data(format!("{} replies to {requests} requests about memos", replies.len())))
}

/// The reply to the only request.
fn only<T>(replies: Vec<Result<T, Error>>) -> Result<T, Error> {
    let none = || Err(Error::Data("no reply to a request about a memo".into()));
    replies.into_iter().next().unwrap_or_else(none)
}
