//! The end of a task: its completion, or its dead dead_letter_header; and the way of a reply to its list.

use std::time::Duration;

use super::Consumer;
use crate::protocol::id::Token;
use crate::script;
use crate::{Error, Queue, TaskId, TaskResult};

/// Where the completion to a task goes.
#[derive(Debug, Clone)]
pub struct Completion {
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
    /// Tasks that are pushed with it.
    pub follow_ups: Vec<String>,
}

/// Where a task lies: a key and what it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TaskPosition<'a> {
    /// In a hash, in a worker's hands or in a line.
    Field(&'a str, &'a Token),
    /// In a sorted set, as this entry.
    Member(&'a str, &'a [u8]),
    /// In a list, as its producer's bytes.
    Element(&'a str, &'a [u8]),
}

impl Consumer {
    /// Completes tasks. For each: whether it was still this worker's; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn finish(&self, completions: &[Completion]) -> Result<Vec<bool>, Error> {
        self.queue.finish(&self.active, completions).await
    }

    /// Ends a task as a dead dead_letter_header, and writes its result where it has an id. `false`: the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn bury(
        &self,
        token: &Token,
        dead_letter_header: &str,
        completion: Option<&Completion>,
    ) -> Result<bool, Error> {
        self.queue.bury(&TaskPosition::Field(&self.active, token), token, dead_letter_header, completion).await
    }

    /// The tokens of replies that wait to be delivered to a list in another Cluster slot.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn undelivered(&self) -> Result<Vec<Token>, Error> {
        self.hkeys(&self.queue.keys.replies).await
    }
}

impl Queue {
    /// Completes tasks that `holder` has, a hash by token.
    pub(super) async fn finish(&self, holder: &str, completions: &[Completion]) -> Result<Vec<bool>, Error> {
        let keys = &self.keys;
        let mut call = script::FINISH.call().key(holder).key(&keys.stats).key(&keys.replies).key(&keys.waiters);
        call = call.key(&keys.waiting);
        for completion in completions {
            call = self.add(call.arg(completion.token.as_str()), completion).arg(completion.follow_ups.len());
            call = completion.follow_ups.iter().fold(call, script::Invocation::arg);
        }
        let done: Vec<bool> = self.db.invoke(&call).await?;
        for (completion, _) in completions.iter().zip(&done).filter(|(_, done)| **done) {
            self.deliver_if_later(completion).await;
        }
        Ok(done)
    }

    /// Ends as a dead dead_letter_header the task that is at a position; `token` names its reply until that is delivered.
    pub(crate) async fn bury(
        &self,
        position: &TaskPosition<'_>,
        token: &Token,
        dead_letter_header: &str,
        completion: Option<&Completion>,
    ) -> Result<bool, Error> {
        let keys = &self.keys;
        let (place, kind, what) = match *position {
            TaskPosition::Field(hash, field) => (hash, "hash", field.as_str().as_bytes()),
            TaskPosition::Member(zset, entry) => (zset, "zset", entry),
            TaskPosition::Element(list, raw) => (list, "list", raw),
        };
        let mut call = script::BURY
            .call()
            .key(place)
            .key(&keys.dead)
            .key(&keys.stats)
            .key(&keys.replies)
            .key(&keys.waiters)
            .key(&keys.waiting)
            .arg(kind)
            .bytes(what)
            .arg(dead_letter_header)
            .arg(token.as_str());
        if let Some(completion) = completion {
            call = self.add(call, completion);
            call = completion.follow_ups.iter().fold(call, script::Invocation::arg);
        }
        let done: bool = self.db.invoke(&call).await?;
        if let Some(completion) = completion.filter(|_| done) {
            self.deliver_if_later(completion).await;
        }
        Ok(done)
    }

    /// Delivers a reply to its list in another Cluster slot, at least once: two slots can't be written as one.
    ///
    /// # Errors
    /// That of Redis; the reply is kept.
    pub async fn deliver_reply(&self, token: &Token) -> Result<(), Error> {
        let replies = &self.keys.replies;
        let mut get = redis::cmd("HGET");
        get.arg(replies).arg(token.as_str());
        let kept: Option<String> = self.db.run(async |connection| get.query_async(connection).await).await?;
        let Some(kept) = kept else { return Ok(()) };
        let bad = || Error::Data(format!("the reply under token {}", token.as_str()));
        let (head, list) = kept.split_once('\n').ok_or_else(bad)?;
        let (ttl_ms, result) = head.split_once(' ').ok_or_else(bad)?;
        let push = script::DELIVER.call().key(list).arg(ttl_ms).arg(result);
        // 0: a list that is no list is the producer's mistake, and there is nothing to try again.
        let _delivered: u8 = self.db.invoke(&push).await?;
        let mut forget = redis::cmd("HDEL");
        forget.arg(replies).arg(token.as_str());
        self.db.run(async |connection| forget.exec_async(connection).await).await
    }

    async fn deliver_if_later(&self, completion: &Completion) {
        if self.is_elsewhere(completion)
            && let Err(error) = self.deliver_reply(&completion.token).await
        {
            tracing::debug!(%error, "a reply will be delivered at a later heartbeat");
        }
    }

    /// Adds to a call what `lib/completion.lua` needs of an completion.
    fn add(&self, mut call: script::Invocation, completion: &Completion) -> script::Invocation {
        let (mode, reply_to) = self.way(completion);
        call = call.key(self.keys.result(&completion.id));
        if mode == "push" {
            call = call.key(reply_to);
        }
        call.arg(completion.ttl.as_millis().max(1)) // Redis refuses 0, and would do so in the midst of the script.
            .arg(&completion.result)
            .arg(mode)
            .arg(reply_to)
    }

    /// How a reply is delivered: in the same script wherever that script may touch its list; and never to a key of Redial's
    /// own, where a task could end other tasks.
    fn way<'a>(&self, completion: &'a Completion) -> (&'static str, &'a str) {
        match completion.reply_to.as_deref() {
            None => ("none", ""),
            Some(list) if self.keys.is_own(list) => {
                tracing::warn!(id = %completion.id, list, "`reply_to` names a key of Redial's own: no reply, the result stands under its key");
                ("none", "")
            }
            Some(list) if self.is_elsewhere(completion) => ("later", list),
            Some(list) => ("push", list),
        }
    }

    fn is_elsewhere(&self, completion: &Completion) -> bool {
        let elsewhere = |list: &str| !self.keys.same_slot(list);
        self.db.is_cluster() && completion.reply_to.as_deref().is_some_and(elsewhere)
    }
}

/// The dead dead_letter_header's header: its serial, to find it by, the memo of its idempotency key, to clear before a replay, and the
/// result, without a body too large to keep.
pub fn dead_letter_header(serial: &str, memo: Option<&str>, result: &TaskResult) -> String {
    /// The most bytes of an completion's body that a dead dead_letter_header keeps: it has no TTL, the result has it whole.
    const MAX_BODY: usize = 64 << 10;
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
    let memo = memo.map(|hash| format!("\"memo\":\"{hash}\",")).unwrap_or_default();
    format!("{{\"serial\":\"{serial}\",{memo}{}", line.strip_prefix('{').unwrap_or("}"))
}
