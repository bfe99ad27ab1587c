//! The end of a task whose end Redis refuses: a dead letter that says why, without what may be at fault.
//!
//! A reply list that the worker may not write to, an answer larger than Redis stores, a key of another type: Redis refuses the whole
//! step, and will do so again. So it is repeated with less and less: without the reply and the tasks that follow, without the body of
//! the response, without a result. A task that cannot even become a dead letter is given up, which counts as a crash.

use std::sync::Arc;
use std::time::Duration;

use redial_core::consumer::{Completion, Consumer, dead_letter_header};
use redial_core::memo::MemoKey;
use redial_core::protocol::id::Token;
use redial_core::protocol::stream::last_entry;
use redial_core::queue::entry::Entry;
use redial_core::stream::append::{Appended, StreamAppend};
use redial_core::{Error, Queue, Reason, Status, Task, TaskResult};

use super::heavy;
use crate::observe::metrics::Metrics;
use crate::queue::redis_retry::{NotStored, RedisRetry};

/// How long a task waits that a worker gave up for the first time.
pub const GIVE_UP_WAIT: Duration = Duration::from_secs(1);

/// Where a task is.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// This worker holds it.
    Held(&'a Consumer),
    /// It is scheduled or parked, in this queue.
    Stored(&'a Queue),
}

/// What a task was to leave behind, and why Redis refuses that.
#[derive(Debug)]
pub struct RefusedEnding<'a> {
    /// Its fence.
    pub token: &'a Token,
    /// Its result as it was to be stored.
    pub result: TaskResult,
    /// How its dead letter begins: see [`dead_letter_header`].
    pub serial: &'a str,
    /// The memo of its idempotency key.
    pub memo: Option<&'a str>,
    /// Where its result goes. `None` if it has no id.
    pub completion: Option<&'a Completion>,
    /// What Redis says.
    pub error: &'a Error,
}

/// One attempt to end a task after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    /// Its result.
    Result,
    /// Its result without the response.
    NoResponse,
    /// The dead letter alone.
    LetterOnly,
}

impl Place<'_> {
    /// Appends to the stream of a task that is here.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn append_to_stream(&self, append: &StreamAppend<'_>) -> Result<Appended, Error> {
        match self {
            Self::Held(consumer) => consumer.append_to_stream(append).await,
            Self::Stored(queue) => queue.append_to_stored_stream(append).await,
        }
    }

    async fn bury(&self, token: &Token, letter: &str, completion: Option<&Completion>) -> Result<bool, Error> {
        match self {
            Self::Held(consumer) => consumer.bury(token, letter, completion).await,
            Self::Stored(queue) => Ok(queue.bury_stored(&[(token, letter, completion)]).await?.contains(&true)),
        }
    }
}

impl RefusedEnding<'_> {
    /// Ends the task as a dead letter with as much as Redis accepts. Returns its result, or `None` if the lease was lost.
    ///
    /// # Errors
    /// Redis refuses that as well, or the worker aborts.
    pub async fn bury(&self, retry: &RedisRetry, place: Place<'_>) -> Result<Option<TaskResult>, NotStored> {
        let mut last = NotStored::Aborted;
        for rest in [Rest::Result, Rest::NoResponse, Rest::LetterOnly] {
            let result = self.dead(rest);
            let letter = dead_letter_header(self.serial, self.memo, &result);
            let completion = self.completion.filter(|_| rest < Rest::LetterOnly).map(|completion| Completion {
                result: result.to_line(),
                reply_to: None,
                last_entry: completion.last_entry.as_ref().map(|_| last_entry(&result)),
                follow_ups: Vec::new(),
                ..completion.clone()
            });
            match retry.retry("bury", || place.bury(self.token, &letter, completion.as_ref())).await {
                Ok(true) => return Ok(Some(result)),
                Ok(false) => return Ok(None),
                Err(NotStored::Aborted) => return Err(NotStored::Aborted),
                Err(refused) => last = refused,
            }
        }
        Err(last)
    }

    /// The result that says what became of the task.
    fn dead(&self, rest: Rest) -> TaskResult {
        let mut result = self.result.clone();
        let error = self.error;
        result.error = Some(match (result.status, result.error.take()) {
            (Status::Ok, _) => format!(
                "the call was answered, but Redis refuses to store that: {error}; neither its reply nor what follows it was sent. Another \
                 task makes the call again"
            ),
            (Status::Dead, said) => {
                let said = said.unwrap_or_default();
                format!(
                    "{said}; and Redis refuses to store that: {error}; neither its reply nor what follows it was sent"
                )
            }
        });
        if result.status == Status::Ok {
            result.status = Status::Dead;
            // A field of the task asks for what Redis refuses, such as its `reply_to`.
            result.reason = Some(Reason::InvalidTask);
        }
        if rest >= Rest::NoResponse {
            if result.reason == Some(Reason::InvalidTask) && self.result.body_bytes() > 0 {
                result.reason = Some(Reason::TooLarge);
            }
            (result.headers, result.body, result.body_text, result.body_base64) = (None, None, None, None);
        }
        if rest == Rest::LetterOnly {
            result.meta = None;
        }
        result
    }
}

/// Ends a task of which only its completion is known, because the worker has already put it aside. Returns its result, or `None` if the
/// lease was lost.
///
/// # Errors
/// Redis refuses that as well, or the worker aborts.
pub async fn bury_completion(
    retry: &RedisRetry,
    consumer: &Consumer,
    max_task_bytes: usize,
    memo_for: impl Fn(Task) -> Option<MemoKey>,
    completion: &Completion,
    error: &Error,
) -> Result<Option<TaskResult>, NotStored> {
    let Some(entry) = retry.retry("held_entry", || consumer.held_entry(&completion.token)).await? else {
        return Ok(None);
    };
    let Entry { header, raw, .. } = entry;
    let read = || {
        let task = Task::parse(&raw, max_task_bytes).ok();
        (task.and_then(&memo_for), serde_json::from_str(&completion.result))
    };
    let (memo, result) = heavy::work(raw.len() + completion.result.len(), read).await;
    // It cannot fail: this worker has just written it.
    let result = result.map_err(|error| NotStored::Refused(Arc::new(Error::Data(error.to_string()))))?;
    let memo = memo.as_ref().map(|memo| memo.hash.as_str());
    let (serial, completion) = (&header.serial, Some(completion));
    let refused = RefusedEnding { token: &entry.token, result, serial, memo, completion, error };
    refused.bury(retry, Place::Held(consumer)).await
}

/// Gives a task back with which this worker cannot go on, and counts a crash, so that it is set aside in the end. Its slot can be freed
/// afterwards, whatever Redis says: at worst the task stays under its lease until this worker ends. Returns whether it was given back.
pub async fn give_back_as_crashed(retry: &RedisRetry, metrics: &Metrics, consumer: &Consumer, token: &Token) -> bool {
    let whole = consumer.queue().whole_name();
    let queue = whole.as_str();
    metrics.given_up(queue);
    match retry.retry("give_up", || consumer.give_up(token, GIVE_UP_WAIT)).await {
        Ok(given_back) => given_back,
        Err(NotStored::Aborted) => false,
        Err(NotStored::Refused(error)) => {
            tracing::error!(token = token.as_str(), queue, %error, "a task can neither end nor be given back: it stays with this worker's lease");
            false
        }
    }
}

/// The memo that a dead letter's header names.
pub fn memo_of(letter: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        memo: Option<String>,
    }
    serde_json::from_str::<Named>(letter).ok()?.memo
}
