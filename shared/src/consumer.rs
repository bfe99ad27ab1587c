//! The worker's side of a queue: a task's life, each step one script.
//!
//! `waiting -> active -> { complete | scheduled -> active ... | dead }`. Every step of a claimed task is fenced by the
//! token of its delivery: a worker that lost its lease changes nothing.

use std::time::Duration;

use crate::entry::{Entry, Header};
use crate::id::Token;
use crate::script;
use crate::store::{BLOCK, Link};
use crate::{Error, Queue, Store, TaskId, TaskResult, UnixMs, WorkerId};

/// The most tasks of one claim or one reap: a larger batch would hold up everyone else on the node, and Lua's `unpack`
/// fails beyond about 8,000 values.
pub const MAX_BATCH: usize = 100;
/// The most bytes that one claim takes, beyond its first task.
const MAX_CLAIM_BYTES: usize = 4 << 20;

/// One worker at one queue.
#[derive(Debug)]
pub struct Consumer {
    queue: Queue,
    worker: WorkerId,
    active: String,
    lease: Duration,
    waker: Link,
}

/// Names one claim, so that it can be sent again when its answer was lost and take nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimId(String);

impl ClaimId {
    /// The `n`th claim of a worker.
    pub fn new(worker: &WorkerId, n: u64) -> Self {
        Self(format!("{worker}:{n}"))
    }
}

/// What a claim brought.
#[derive(Debug)]
pub struct Claimed {
    /// Redis TIME.
    pub now: UnixMs,
    /// When the next scheduled task is due.
    pub next_due: Option<UnixMs>,
    /// The tasks, now this worker's.
    pub entries: Vec<Entry>,
    /// Tokens of entries that this version can't read.
    pub unreadable: Vec<(Token, Error)>,
}

/// Where the answer to a task goes.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The fence.
    pub token: Token,
    /// The task's id.
    pub id: TaskId,
    /// The result as JSON, one line.
    pub result: String,
    /// How long result and reply are kept.
    pub ttl: Duration,
    /// The list that gets the result as well.
    pub reply_to: Option<String>,
}

/// Why a task goes back without a final answer; each is a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// An attempt failed.
    Retried,
    /// No attempt was made yet.
    Deferred,
    /// Its worker stops.
    Released,
}

impl Back {
    /// The counter's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Deferred => "deferred",
            Self::Released => "released",
        }
    }
}

/// What a heartbeat tells.
#[derive(Debug)]
pub struct Beat {
    /// Redis TIME.
    pub now: UnixMs,
    /// How many tasks this worker holds, by Redis.
    pub held: usize,
    /// How many replies wait to be delivered to another Cluster slot.
    pub undelivered: usize,
    /// Workers whose lease has ended.
    pub ended: Vec<WorkerId>,
}

impl Consumer {
    /// Worker `worker` at `queue`; its lease lasts `lease` from each heartbeat or claim.
    pub fn new(store: &Store, queue: Queue, worker: WorkerId, lease: Duration) -> Self {
        let active = queue.keys.active(&worker);
        Self {
            queue,
            worker,
            active,
            lease,
            waker: store.blocking_link(),
        }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes up to `most` tasks (at most [`MAX_BATCH`]): due ones first, then waiting ones.
    ///
    /// # Errors
    /// That of Redis. The claim may have been carried out: send it again under the same id.
    pub async fn claim(&self, id: &ClaimId, most: usize) -> Result<Claimed, Error> {
        let keys = &self.queue.keys;
        let call = script::CLAIM
            .call()
            .key(&keys.waiting)
            .key(&keys.woken)
            .key(&keys.scheduled)
            .key(&self.active)
            .key(&keys.workers)
            .arg(&self.worker)
            .arg(&id.0)
            .arg(most.min(MAX_BATCH))
            .arg(self.lease.as_millis())
            .arg(MAX_CLAIM_BYTES);
        let (now, next_due, raw): (u64, i64, Vec<Vec<u8>>) = self
            .run(&call)
            .await
            .and_then(|reply: Vec<redis::Value>| split_claim(reply))?;
        let mut claimed = Claimed {
            now: UnixMs(now),
            next_due: u64::try_from(next_due).ok().map(UnixMs),
            entries: Vec::with_capacity(raw.len()),
            unreadable: Vec::new(),
        };
        for (n, bytes) in raw.into_iter().enumerate() {
            let token = Token(format!("{}:{}", id.0, n + 1));
            match Entry::parse(token.clone(), bytes) {
                Ok(entry) => claimed.entries.push(entry),
                Err(error) => claimed.unreadable.push((token, error)),
            }
        }
        Ok(claimed)
    }

    /// Waits, for at most [`BLOCK`], until a task is pushed; then it lies in `woken`, for the next claim of any worker.
    /// Returns whether there was one. Never drop this future: the wait goes on at the server.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn wait_for_push(&self) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let mut wait = redis::cmd("BLMOVE");
        wait.arg(&keys.waiting)
            .arg(&keys.woken)
            .arg("RIGHT")
            .arg("LEFT")
            .arg(BLOCK.as_secs_f64());
        let woken: Option<Vec<u8>> = self
            .waker
            .run(async |wire| wait.query_async(wire).await)
            .await?;
        Ok(woken.is_some())
    }

    /// Gives back what woke this worker when it has no free place for it: the push wakes another one.
    ///
    /// # Errors
    /// That of Redis. Nothing is lost: the task stays in `woken`, for the next claim of any worker.
    pub async fn pass_on_wake(&self) -> Result<(), Error> {
        let keys = &self.queue.keys;
        let mut back = redis::cmd("LMOVE");
        back.arg(&keys.woken)
            .arg(&keys.waiting)
            .arg("RIGHT")
            .arg("RIGHT");
        self.queue
            .link
            .run(async |wire| back.exec_async(wire).await)
            .await
    }

    /// Puts down that a call is about to go out. `false`: the lease was lost, do not call.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn begin(&self, token: &Token, header: &Header) -> Result<bool, Error> {
        let call = script::BEGIN
            .call()
            .key(&self.active)
            .arg(token.as_str())
            .arg(header.to_line());
        self.run(&call).await
    }

    /// Completes tasks. For each: whether it was still this worker's; if not, nothing of it was written.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn finish(&self, answers: &[Answer]) -> Result<Vec<bool>, Error> {
        let keys = &self.queue.keys;
        let mut call = script::FINISH
            .call()
            .key(&self.active)
            .key(&keys.stats)
            .key(&keys.replies);
        for answer in answers {
            let (mode, reply_to) = self.reply(answer);
            call = call.key(keys.result(&answer.id));
            if mode == "push" {
                call = call.key(reply_to);
            }
            call = call
                .arg(answer.token.as_str())
                .arg(answer.ttl.as_millis())
                .arg(&answer.result)
                .arg(mode)
                .arg(reply_to);
        }
        let done: Vec<bool> = self.run(&call).await?;
        for (answer, done) in answers.iter().zip(&done) {
            if *done && self.reply(answer).0 == "later" {
                self.deliver_soon(&answer.token).await;
            }
        }
        Ok(done)
    }

    /// Gives a task back, to be claimed again after `wait` and not before `not_before`. Returns when it is due, or `None`
    /// when the lease was lost.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn retry_at(
        &self,
        token: &Token,
        header: &Header,
        wait: Duration,
        not_before: UnixMs,
        why: Back,
    ) -> Result<Option<UnixMs>, Error> {
        let keys = &self.queue.keys;
        let call = script::RETRY_AT
            .call()
            .key(&self.active)
            .key(&keys.scheduled)
            .key(&keys.stats)
            .arg(token.as_str())
            .arg(wait.as_millis())
            .arg(not_before)
            .arg(header.to_line())
            .arg(why.as_str());
        let due: u64 = self.run(&call).await?;
        Ok((due > 0).then_some(UnixMs(due)))
    }

    /// Ends a task as a dead letter, and writes its result where it has an id. `false`: the lease was lost.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn bury(
        &self,
        token: &Token,
        letter: &str,
        answer: Option<&Answer>,
    ) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let mut call = script::BURY
            .call()
            .key(&self.active)
            .key(&keys.dead)
            .key(&keys.stats)
            .key(&keys.replies)
            .arg(token.as_str())
            .arg(letter);
        if let Some(answer) = answer {
            let (mode, reply_to) = self.reply(answer);
            call = call.key(keys.result(&answer.id));
            if mode == "push" {
                call = call.key(reply_to);
            }
            call = call
                .arg(answer.ttl.as_millis())
                .arg(&answer.result)
                .arg(mode)
                .arg(reply_to);
        }
        let done: bool = self.run(&call).await?;
        if done && answer.is_some_and(|answer| self.reply(answer).0 == "later") {
            self.deliver_soon(token).await;
        }
        Ok(done)
    }

    /// The tokens of replies that wait to be delivered to a list in another Cluster slot.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn undelivered(&self) -> Result<Vec<Token>, Error> {
        self.hkeys(&self.queue.keys.replies).await
    }

    /// Delivers a reply to its list in another Cluster slot, at least once: two slots can't be written as one.
    ///
    /// # Errors
    /// That of Redis; the reply is kept.
    pub async fn deliver_reply(&self, token: &Token) -> Result<(), Error> {
        let replies = &self.queue.keys.replies;
        let mut get = redis::cmd("HGET");
        get.arg(replies).arg(token.as_str());
        let kept: Option<String> = self
            .queue
            .link
            .run(async |wire| get.query_async(wire).await)
            .await?;
        let Some(kept) = kept else { return Ok(()) };
        let bad = || Error::Data(format!("the reply under token {}", token.as_str()));
        let (head, result) = kept.split_once('\n').ok_or_else(bad)?;
        let (ttl_ms, list) = head.split_once(' ').ok_or_else(bad)?;
        let mut push = redis::pipe();
        push.cmd("LPUSH")
            .arg(list)
            .arg(result)
            .ignore()
            .cmd("PEXPIRE")
            .arg(list)
            .arg(ttl_ms)
            .ignore();
        let mut forget = redis::cmd("HDEL");
        forget.arg(replies).arg(token.as_str());
        let pushed = self
            .queue
            .link
            .run(async |wire| push.exec_async(wire).await)
            .await;
        match pushed {
            // A list that is no list is the producer's mistake: nothing to try again.
            Err(Error::Redis(error)) if error.code() == Some("WRONGTYPE") => {}
            other => other?,
        }
        self.queue
            .link
            .run(async |wire| forget.exec_async(wire).await)
            .await
    }

    async fn deliver_soon(&self, token: &Token) {
        if let Err(error) = self.deliver_reply(token).await {
            tracing::debug!(%error, "a reply will be delivered at a later heartbeat");
        }
    }

    /// Renews this worker's lease on all its tasks of the queue.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn heartbeat(&self) -> Result<Beat, Error> {
        let keys = &self.queue.keys;
        let call = script::HEARTBEAT
            .call()
            .key(&keys.workers)
            .key(&self.active)
            .key(&keys.replies)
            .arg(&self.worker)
            .arg(self.lease.as_millis());
        let reply: Vec<redis::Value> = self.run(&call).await?;
        let data = || Error::Data("the answer to a heartbeat".into());
        let [now, held, undelivered, ended @ ..] = reply.as_slice() else {
            return Err(data());
        };
        let ended = ended
            .iter()
            .map(redis::from_redis_value_ref)
            .collect::<Result<Vec<String>, _>>();
        Ok(Beat {
            now: UnixMs(redis::from_redis_value_ref(now).map_err(|_| data())?),
            held: redis::from_redis_value_ref(held).map_err(|_| data())?,
            undelivered: redis::from_redis_value_ref(undelivered).map_err(|_| data())?,
            ended: ended
                .map_err(|_| data())?
                .into_iter()
                .map(WorkerId::from_redis)
                .collect(),
        })
    }

    /// Takes back the tasks of a worker whose lease has ended, a batch at a time. Returns how many this batch took and
    /// how many are left.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn reap(&self, ended: &WorkerId) -> Result<(usize, usize), Error> {
        self.take_back(ended, "reaped", &[]).await
    }

    /// Gives back, uncounted, whatever this worker still holds, a batch at a time, and forgets the worker.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn release(&self) -> Result<(usize, usize), Error> {
        self.take_back(&self.worker, Back::Released.as_str(), &[])
            .await
    }

    /// Gives back tasks that Redis has in this worker's name and that the worker knows nothing of.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn release_strays(&self, tokens: &[Token]) -> Result<(usize, usize), Error> {
        self.take_back(&self.worker, "stray", tokens).await
    }

    /// The tokens of the tasks that Redis has in this worker's name.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn held(&self) -> Result<Vec<Token>, Error> {
        self.hkeys(&self.active).await
    }

    async fn hkeys(&self, hash: &str) -> Result<Vec<Token>, Error> {
        let mut keys = redis::cmd("HKEYS");
        keys.arg(hash);
        let tokens: Vec<String> = self
            .queue
            .link
            .run(async |wire| keys.query_async(wire).await)
            .await?;
        Ok(tokens.into_iter().map(Token).collect())
    }

    async fn take_back(
        &self,
        from: &WorkerId,
        why: &str,
        tokens: &[Token],
    ) -> Result<(usize, usize), Error> {
        let keys = &self.queue.keys;
        let mut call = script::REAP
            .call()
            .key(&keys.workers)
            .key(keys.active(from))
            .key(&keys.scheduled)
            .key(&keys.stats)
            .arg(from)
            .arg(why)
            .arg(MAX_BATCH);
        for token in tokens {
            call = call.arg(token.as_str());
        }
        self.run(&call).await
    }

    /// How a reply is delivered: in the same script wherever that script may touch its list.
    fn reply<'a>(&self, answer: &'a Answer) -> (&'static str, &'a str) {
        match answer.reply_to.as_deref() {
            None => ("none", ""),
            Some(list) if self.queue.is_cluster && !self.queue.keys.same_slot(list) => {
                ("later", list)
            }
            Some(list) => ("push", list),
        }
    }

    async fn run<T: redis::FromRedisValue>(&self, call: &script::Call) -> Result<T, Error> {
        self.queue.link.run(async |wire| call.run(wire).await).await
    }
}

fn split_claim(reply: Vec<redis::Value>) -> Result<(u64, i64, Vec<Vec<u8>>), Error> {
    let data = |_| Error::Data("the answer to a claim".into());
    let mut values = reply.into_iter();
    let mut head = || redis::from_redis_value(values.next().unwrap_or(redis::Value::Nil));
    let (now, next_due): (i64, i64) = (head().map_err(data)?, head().map_err(data)?);
    let entries = values
        .map(|value| match value {
            redis::Value::BulkString(bytes) => Ok(bytes),
            other => redis::from_redis_value(other),
        })
        .collect::<Result<_, _>>()
        .map_err(data)?;
    Ok((now.unsigned_abs(), next_due, entries))
}

/// The dead letter's header: its serial, to find it by, and the result, without a body too large to keep.
pub fn letter(serial: &str, result: &TaskResult) -> String {
    /// The most bytes of an answer's body that a dead letter keeps: it has no TTL, the result has it whole.
    const MAX_BODY: usize = 64 << 10;
    let mut result = result.clone();
    if result
        .body
        .as_ref()
        .is_some_and(|body| body.get().len() > MAX_BODY)
    {
        result.body = None;
    }
    for body in [&mut result.body_text, &mut result.body_base64] {
        if body.as_ref().is_some_and(|body| body.len() > MAX_BODY) {
            *body = None;
        }
    }
    let line = result.to_line();
    format!(
        "{{\"serial\":\"{serial}\",{}",
        line.strip_prefix('{').unwrap_or("}")
    )
}
