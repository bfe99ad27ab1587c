//! The end of a task: its result or its dead letter, and the delivery of its reply.

use std::borrow::Borrow;
use std::time::Duration;

use super::Consumer;
use crate::protocol::id::Token;
use crate::queue::entry::Entry;
use crate::script::ending::{Ending, FinishedTask, FinishedTasks, ReplyRoute, StreamEnding};
use crate::script::millis;
use crate::script::task::{Bury, Deliver, Finish};
use crate::{Error, Queue, TaskId, TaskResult};

/// From how many bytes on a result is uploaded, so that no script sees it: Lua copies and hashes each byte of a string. That makes 1.4 times
/// as many answers of 33 KB a second, and twice as many of 1 MB; of 17 KB hardly more.
const MIN_UPLOAD: usize = 32 << 10;
/// How long an upload is kept that no script moves to its key, because the worker is gone.
const UPLOAD_TTL: Duration = Duration::from_secs(60);

/// The result of a task, and where it goes.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The fence: the token of this delivery, or the serial of a parked task.
    pub token: Token,
    /// The task's id.
    pub id: TaskId,
    /// The result as JSON, one line.
    pub result: String,
    /// How long result and reply are kept.
    pub ttl: Duration,
    /// The list that also gets the result.
    pub reply_to: Option<String>,
    /// The last entry of the task's stream, if it has one.
    pub last_entry: Option<String>,
    /// Tasks that are pushed together with the result.
    pub follow_ups: Vec<String>,
}

impl Completion {
    /// Whether to store the result takes so long that it should hold up no other one.
    pub fn is_large(&self) -> bool {
        self.result.len() >= MIN_UPLOAD
    }
}

/// Where the answer of a task goes.
#[derive(Debug, Default)]
pub(super) struct AnswerKeys {
    result: String,
    /// Where the result was uploaded to, if it was.
    upload: Option<String>,
    stream: String,
}

/// Where a task is: a key, and what it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TaskPosition<'a> {
    /// A field of a hash: a task that a worker holds.
    Field(&'a str, &'a Token),
}

impl Consumer {
    /// Completes tasks. For each: whether this worker still held it; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn finish(&self, completions: &[Completion]) -> Result<Vec<bool>, Error> {
        let done = self.queue.finish(&self.active, completions).await?;
        self.queue.deliver_soon(completions, &done);
        Ok(done)
    }

    /// Ends a task as a dead letter, and stores its result if it has an id. `false`: the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn bury(
        &self,
        token: &Token,
        letter_header: &str,
        completion: Option<&Completion>,
    ) -> Result<bool, Error> {
        let position = TaskPosition::Field(&self.active, token);
        let done = self.queue.bury(&position, token, letter_header, completion).await?;
        self.queue.deliver_soon(completion.as_slice(), &[done]);
        Ok(done)
    }

    /// The entry that this worker holds under a token. `None`: the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. [`Error::Data`] if the entry cannot be read.
    pub async fn held_entry(&self, token: &Token) -> Result<Option<Entry>, Error> {
        let mut get = redis::cmd("HGET");
        get.arg(&self.active).arg(token.as_str());
        let bytes: Option<Vec<u8>> = self.queue.db.run(async |connection| get.query_async(connection).await).await?;
        bytes.map(|bytes| Entry::parse(token.clone(), bytes)).transpose()
    }

    /// The tokens of the replies that wait to be delivered to another Cluster slot.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn undelivered(&self) -> Result<Vec<Token>, Error> {
        self.hkeys(&self.queue.keys.replies).await
    }
}

impl Queue {
    /// Completes tasks that the hash `held` holds by token. The caller delivers those replies that no script can.
    pub(super) async fn finish(&self, held: &str, completions: &[Completion]) -> Result<Vec<bool>, Error> {
        let mut keys: Vec<AnswerKeys> = completions
            .iter()
            .map(|completion| AnswerKeys { upload: self.upload_key(completion), ..self.answer_keys(completion) })
            .collect();
        if keys.iter().any(|keys| keys.upload.is_some()) {
            if let Some(finished) = Box::pin(self.finish_uploaded(held, completions, &keys)).await? {
                return Ok(finished);
            }
            for keys in &mut keys {
                keys.upload = None;
            }
        }
        self.finish_under(held, completions, &keys).await
    }

    /// The same, with some results uploaded, in one round trip: the connection keeps the order of what is sent together. `None`: Redis has
    /// refused an upload or its move, for want of memory or by an ACL. The script may store what nobody else may.
    async fn finish_uploaded(
        &self,
        held: &str,
        completions: &[Completion],
        keys: &[AnswerKeys],
    ) -> Result<Option<Vec<bool>>, Error> {
        match tokio::join!(self.upload(completions, keys), self.finish_under(held, completions, keys)).1 {
            Err(Error::Redis(error)) if error.code().is_some() => Ok(None),
            finished => finished.map(Some),
        }
    }

    /// The same, with the answers under these keys.
    async fn finish_under(
        &self,
        held: &str,
        completions: &[Completion],
        answer_keys: &[AnswerKeys],
    ) -> Result<Vec<bool>, Error> {
        let keys = &self.keys;
        let tasks: Vec<FinishedTask<'_>> = completions
            .iter()
            .zip(answer_keys)
            .map(|(completion, keys)| FinishedTask {
                token: completion.token.as_str(),
                ending: self.ending(completion, keys),
            })
            .collect();
        let call = Finish {
            held,
            stats: &keys.stats,
            replies: &keys.replies,
            waiters: &keys.waiters,
            waiting: &keys.waiting,
            stored: &keys.stored,
            scheduled: &keys.scheduled,
            tasks: FinishedTasks(&tasks),
        };
        Ok(self.db.call(&call).await?.were_held(tasks.len()))
    }

    /// The key to upload a result to, if it is large and no script has to read it.
    fn upload_key(&self, completion: &Completion) -> Option<String> {
        let is_uploaded = completion.is_large() && completion.reply_to.is_none();
        is_uploaded.then(|| self.keys.upload(&completion.token))
    }

    async fn upload(&self, completions: &[Completion], keys: &[AnswerKeys]) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        for (completion, keys) in completions.iter().zip(keys) {
            let Some(key) = &keys.upload else { continue };
            pipeline.cmd("SET").arg(key).arg(&completion.result).arg("PX").arg(millis(UPLOAD_TTL)).ignore();
        }
        self.db.run(async |connection| pipeline.exec_async(connection).await).await
    }

    /// Ends the task at a position as a dead letter; `token` names its reply until that is delivered, by the caller if no script can.
    pub(crate) async fn bury(
        &self,
        position: &TaskPosition<'_>,
        token: &Token,
        letter_header: &str,
        completion: Option<&Completion>,
    ) -> Result<bool, Error> {
        let keys = &self.keys;
        let TaskPosition::Field(place, field) = *position;
        let (place_type, member) = ("hash", field.as_str().as_bytes());
        let answer_keys = completion.map(|completion| self.answer_keys(completion)).unwrap_or_default();
        let call = Bury {
            place,
            dead: &keys.dead,
            stats: &keys.stats,
            replies: &keys.replies,
            waiters: &keys.waiters,
            waiting: &keys.waiting,
            stored: &keys.stored,
            scheduled: &keys.scheduled,
            place_type,
            member,
            letter_header,
            token: token.as_str(),
            ending: completion.map(|completion| self.ending(completion, &answer_keys)),
        };
        self.db.call(&call).await
    }

    /// Removes the serials of stored tasks that have ended from where they wait. Whatever finds one first would do the same: it is no
    /// longer in `stored`.
    pub(super) async fn forget_stored(&self, serials: &[&Token]) -> Result<(), Error> {
        if serials.is_empty() {
            return Ok(());
        }
        let mut forget = redis::pipe();
        for key in [&self.keys.scheduled, &self.keys.watch] {
            forget.cmd("ZREM").arg(key);
            for serial in serials {
                forget.arg(serial.as_str());
            }
        }
        self.db.run(async |connection| forget.exec_async(connection).await).await
    }

    /// Delivers a reply to its list in another Cluster slot, at least once: no script can write to two slots.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command: the reply is kept. [`Error::Data`] if the kept reply cannot be read.
    pub async fn deliver_reply(&self, token: &Token) -> Result<(), Error> {
        let replies = &self.keys.replies;
        let mut get = redis::cmd("HGET");
        get.arg(replies).arg(token.as_str());
        let kept: Option<String> = self.db.run(async |connection| get.query_async(connection).await).await?;
        let Some(kept) = kept else { return Ok(()) };
        let bad = || Error::Data(format!("the reply under token {}", token.as_str()));
        let (head, list) = kept.split_once('\n').ok_or_else(bad)?;
        let (ttl_ms, result) = head.split_once(' ').ok_or_else(bad)?;
        // A key that is not a list is the producer's mistake: trying again would not help.
        let _delivered = self.db.call(&Deliver { reply_list: list, ttl_ms, result }).await?;
        let mut forget = redis::cmd("HDEL");
        forget.arg(replies).arg(token.as_str());
        self.db.run(async |connection| forget.exec_async(connection).await).await
    }

    /// Delivers the replies that no script could, in the background: the node of a list may hang, and this must hold up neither other
    /// lists nor what comes after. What cannot be delivered now is left for a later heartbeat of any worker.
    pub(super) fn deliver_soon<C: Borrow<Completion>>(&self, completions: &[C], done: &[bool]) {
        if !self.db.is_cluster() {
            return;
        }
        for (completion, _) in completions.iter().zip(done).filter(|(_, done)| **done) {
            let completion = completion.borrow();
            let Some(list) = completion.reply_to.as_deref().filter(|_| self.is_elsewhere(completion)) else { continue };
            let (queue, token) = (self.clone(), completion.token.clone());
            self.db.deliveries().spawn(list, async move { queue.try_to_deliver(&token).await });
        }
    }

    /// The same at once, for a process that may end soon.
    pub(crate) async fn deliver_now(&self, completion: &Completion) {
        if self.is_elsewhere(completion) {
            self.try_to_deliver(&completion.token).await;
        }
    }

    async fn try_to_deliver(&self, token: &Token) {
        if let Err(error) = self.deliver_reply(token).await {
            tracing::debug!(%error, "a reply could not be delivered; a later heartbeat tries again");
        }
    }

    pub(super) fn answer_keys(&self, completion: &Completion) -> AnswerKeys {
        let stream = completion.last_entry.as_ref().map(|_| self.keys.stream(&completion.id));
        AnswerKeys { result: self.keys.result(&completion.id), upload: None, stream: stream.unwrap_or_default() }
    }

    pub(super) fn ending<'a>(&self, completion: &'a Completion, keys: &'a AnswerKeys) -> Ending<'a> {
        let stream = completion.last_entry.as_deref();
        let (result, reply) = match &keys.upload {
            Some(key) => ("", ReplyRoute::Uploaded(key)),
            None => (completion.result.as_str(), self.reply_route(completion)),
        };
        Ending {
            result_key: &keys.result,
            ttl_ms: millis(completion.ttl).max(1), // Redis refuses 0, and would do so in the middle of the script.
            result,
            reply,
            stream: stream.map(|last_entry| StreamEnding { key: &keys.stream, last_entry }),
            follow_ups: &completion.follow_ups,
        }
    }

    /// How a reply is delivered: by the same script wherever that script may touch its list, but never to one of Redial's own keys,
    /// where a task could end other tasks.
    fn reply_route<'a>(&self, completion: &'a Completion) -> ReplyRoute<'a> {
        match completion.reply_to.as_deref() {
            None => ReplyRoute::None,
            Some(list) if self.keys.is_own(list) => {
                tracing::warn!(id = %completion.id, list, "`reply_to` names one of Redial's own keys: no reply is sent, the result is kept under its key");
                ReplyRoute::None
            }
            Some(list) if self.is_elsewhere(completion) => ReplyRoute::Later(list),
            Some(list) => ReplyRoute::Push(list),
        }
    }

    fn is_elsewhere(&self, completion: &Completion) -> bool {
        let elsewhere = |list: &str| !self.keys.same_slot(list);
        self.db.is_cluster() && completion.reply_to.as_deref().is_some_and(elsewhere)
    }
}

/// The header of a dead letter: its serial, by which it is found; the memo of its idempotency key, which a replay clears first; and
/// the result, without its body if that is too large to keep.
pub fn dead_letter_header(serial: &str, memo: Option<&str>, result: &TaskResult) -> String {
    /// The most bytes of a body that a dead letter keeps, as it has no TTL. The result has the whole body.
    const MAX_BODY: usize = 64 << 10;
    /// How many bytes of the error its beginning has.
    const MAX_ERROR: usize = 300;
    let mut result = result.clone();
    if result.body.as_ref().is_some_and(|body| body.get().len() > MAX_BODY) {
        result.body = None;
    }
    for body in [&mut result.body_text, &mut result.body_base64] {
        if body.as_ref().is_some_and(|body| body.len() > MAX_BODY) {
            *body = None;
        }
    }
    let line = result.to_line();
    // What one chooses letters by comes first, so that nobody has to read the rest: see `dead_page.lua`.
    let error = result.error.as_deref().unwrap_or_default();
    let end = (0..=error.len().min(MAX_ERROR)).rev().find(|end| error.is_char_boundary(*end)).unwrap_or(0);
    let summary = serde_json::json!({"died_of": result.reason, "why": &error[..end]}).to_string();
    let summary = summary.trim_start_matches('{').trim_end_matches('}');
    let memo = memo.map(|hash| format!("\"memo\":\"{hash}\",")).unwrap_or_default();
    format!("{{\"serial\":\"{serial}\",{memo}{summary},{}", line.strip_prefix('{').unwrap_or("}"))
}
