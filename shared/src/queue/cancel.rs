//! Cancellation: a task is ended wherever it is, at once. No worker has to agree: one that holds the task finds its lease gone, as if
//! it had been cut off from Redis; it writes nothing more. It gets a message, so that it aborts the call at
//! once; if the message is lost, it does so at its next heartbeat.

use crate::consumer::{Completion, ParkedTasks, TaskPosition, WaitList, dead_letter_header};
use crate::memo::{Delivery, LeadOutcome};
use crate::protocol::follow_ups::{follow_ups, follow_ups_of_invalid};
use crate::protocol::id::Token;
use crate::protocol::stream::last_entry;
use crate::protocol::task::{MAX_BYTES, RESULT_TTL, Task};
use crate::queue::entry::{Entry, Progress};
use crate::queue::find::{FoundTask, Search, TaskLocation};
use crate::{Error, Queue, Reason, Status, TaskId, TaskResult};

/// How often the search is repeated for a task that moves from one place to another meanwhile.
const MAX_SEARCHES: usize = 5;

/// The outcome of a cancellation.
#[derive(Debug)]
pub enum Cancelled {
    /// The task is dead now, with the reason `cancelled`; it was here.
    Done(TaskLocation),
    /// The task had finished before.
    Ended(TaskLocation),
    /// The task was not found.
    NotFound(Search),
}

/// A task that is about to be cancelled.
struct CancelTarget<'a> {
    /// Where it is; `None` if it is stored.
    position: Option<TaskPosition<'a>>,
    raw: &'a [u8],
    serial: &'a str,
    state: Progress,
}

impl Queue {
    /// Cancels a task wherever it is. It is searched for as [`Queue::find`] does, among up to `limit` tasks in each state.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, or the task kept moving ([`Error::TaskMoving`]). Safe to repeat.
    pub async fn cancel(&self, id: &TaskId, limit: usize) -> Result<Cancelled, Error> {
        let (mut ended, mut searched) = (None, Search::default());
        for part in self.parts_from_home(id).await? {
            match part.cancel_here(id, limit).await? {
                done @ Cancelled::Done(_) => return Ok(done),
                found @ Cancelled::Ended(_) => ended = ended.or(Some(found)),
                Cancelled::NotFound(search) => {
                    searched.looked_at += search.looked_at;
                    searched.cut_short.extend(search.cut_short);
                }
            }
        }
        searched.cut_short.sort_unstable();
        searched.cut_short.dedup();
        Ok(ended.unwrap_or(Cancelled::NotFound(searched)))
    }

    async fn cancel_here(&self, id: &TaskId, limit: usize) -> Result<Cancelled, Error> {
        let mut searches = 0;
        loop {
            searches += 1;
            let (found, search) = self.take(id, limit).await?;
            match found {
                Some(found @ FoundTask::Ended(_)) => return Ok(Cancelled::Ended(found.into())),
                Some(found) if self.end_as_cancelled(id, &found).await? => return Ok(Cancelled::Done(found.into())),
                // A task that is rescheduled moves against the order of the search, and may be missed once.
                None if searches > 1 || !search.cut_short.is_empty() => return Ok(Cancelled::NotFound(search)),
                Some(_) if searches == MAX_SEARCHES => return Err(Error::TaskMoving(id.clone())),
                Some(_) | None => {}
            }
        }
    }

    /// Whether a task's result says that it was cancelled.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, or Redial did not write the result ([`Error::Data`]).
    pub async fn is_cancelled(&self, id: &TaskId) -> Result<bool, Error> {
        Ok(self.ended(id).await?.is_some_and(|result| result.reason == Some(Reason::Cancelled)))
    }

    async fn end_as_cancelled(&self, id: &TaskId, found: &FoundTask) -> Result<bool, Error> {
        let active;
        let (position, bytes) = match found {
            FoundTask::Taken { entry, .. } | FoundTask::Stored { entry, .. } => (None, entry),
            FoundTask::Active { worker, token, entry } => {
                active = self.keys.active(worker);
                (Some(TaskPosition::Field(&active, token)), entry)
            }
            FoundTask::Waiting { .. } | FoundTask::Ended(_) => return Ok(false),
        };
        let holder = found.holder();
        let Entry { header, raw, .. } = Entry::parse(Token(String::new()), bytes.clone())?;
        let leads = header.state.leads.clone();
        let target = CancelTarget { position, raw: &raw, serial: &header.serial, state: header.state };
        if !self.bury_cancelled(id, target).await? {
            return Ok(false);
        }
        if let Some((worker, token)) = holder
            && let Err(error) = self.db.tell_cancelled(worker, token).await
        {
            tracing::debug!(%error, "could not tell a worker that a task was cancelled: its next heartbeat shows it");
        }
        for hash in leads {
            self.pass_lead_on(&hash, &header.serial).await?;
        }
        Ok(true)
    }

    async fn bury_cancelled(&self, id: &TaskId, target: CancelTarget<'_>) -> Result<bool, Error> {
        let mut result = TaskResult::new(Some(id.clone()), Status::Dead, self.db.now().await?);
        result.reason = Some(Reason::Cancelled);
        result.error = Some("cancelled before it had an answer".into());
        result.attempts = target.state.attempts;
        let (reply_to, ttl, has_stream, next) = match Task::parse(target.raw, MAX_BYTES) {
            Ok(task) => {
                let next = follow_ups(&task, &result, MAX_BYTES);
                result.meta = task.meta;
                result.enqueued_at_ms = task.enqueued_at;
                (task.reply_to, task.result_ttl, task.stream, next)
            }
            Err(invalid) => {
                let next = follow_ups_of_invalid(&invalid, &result);
                (invalid.return_address.reply_to, RESULT_TTL, false, next)
            }
        };
        let serial = target.serial;
        let token = Token(serial.to_owned());
        let answer = Completion {
            token: token.clone(),
            id: id.clone(),
            result: result.to_line(),
            ttl,
            reply_to,
            last_entry: has_stream.then(|| last_entry(&result)),
            follow_ups: next,
        };
        let letter = dead_letter_header(serial, None, &result);
        let done = match target.position {
            Some(position) => self.bury(&position, &token, &letter, Some(&answer)).await?,
            None => self.bury_stored(&[(&token, &letter, Some(&answer))]).await?.contains(&true),
        };
        if done {
            self.deliver_now(&answer).await;
        }
        Ok(done)
    }

    /// Lets the next task of the memo make the call that the cancelled task would have made for all of them.
    async fn pass_lead_on(&self, hash: &str, serial: &str) -> Result<(), Error> {
        let delivery = Delivery { serial, token: &Token(String::new()), queue: &self.name };
        let LeadOutcome::Done(queues) = self.db.memos().settle(hash, delivery, None).await? else { return Ok(()) };
        ParkedTasks::unpark_first_in_any(&self.db, &queues, &WaitList::memo(hash)).await.map(|_| ())
    }
}
