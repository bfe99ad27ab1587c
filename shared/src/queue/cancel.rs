//! Cancellation: a task is ended where it is, at once. No worker has to agree: who has it in hand finds its lease gone, as if it
//! had been cut off, writes nothing more, and gives up the call at its next heartbeat.

use crate::consumer::{Completion, ParkedTasks, TaskPosition, WaitList, dead_letter_header};
use crate::memo::{Delivery, LeadOutcome};
use crate::protocol::follow_ups::{follow_ups, follow_ups_of_invalid};
use crate::protocol::id::Token;
use crate::protocol::task::{MAX_BYTES, RESULT_TTL, Task};
use crate::queue::entry::{Entry, Progress};
use crate::queue::find::{FoundTask, Search, TaskLocation};
use crate::{Error, Queue, Reason, Status, TaskId, TaskResult};

/// How often a task that is on its way from one place to another is looked for.
const LOOKS: usize = 5;

/// What came of it.
#[derive(Debug)]
pub enum Cancelled {
    /// It is dead, with the reason `cancelled`. This is where it was.
    Done(TaskLocation),
    /// It had come to its end before.
    Ended(TaskLocation),
    /// It was not found.
    NotFound(Search),
}

/// A task that is about to be cancelled.
struct CancelTarget<'a> {
    position: TaskPosition<'a>,
    raw: &'a [u8],
    /// Its own name inside Redial; one that never was in a worker's hands has none yet.
    serial: Option<&'a str>,
    state: Progress,
}

impl Queue {
    /// Cancels a task wherever it is: it is looked for as [`Queue::find`] does, up to `most` tasks of each place.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to ask again.
    pub async fn cancel(&self, id: &TaskId, most: usize) -> Result<Cancelled, Error> {
        let mut looks = 0;
        loop {
            looks += 1;
            let (found, search) = self.locate(id, most).await?;
            match found {
                Some(found @ FoundTask::Ended(_)) => return Ok(Cancelled::Ended(found.into())),
                Some(found) if self.end_as_cancelled(id, &found).await? => return Ok(Cancelled::Done(found.into())),
                // One that goes back for a retry passes the other way, and may be missed once.
                None if looks > 1 || !search.cut_short.is_empty() => return Ok(Cancelled::NotFound(search)),
                Some(_) if looks == LOOKS => {
                    return Err(Error::Data(format!(
                        "a place for {id}: it moved on each time it was found, try again"
                    )));
                }
                Some(_) | None => {}
            }
        }
    }

    /// Whether a task was cancelled, as its result says.
    ///
    /// # Errors
    /// That of Redis; [`Error::Data`] when the result is not Redial's.
    pub async fn is_cancelled(&self, id: &TaskId) -> Result<bool, Error> {
        Ok(self.ended(id).await?.is_some_and(|result| result.reason == Some(Reason::Cancelled)))
    }

    async fn end_as_cancelled(&self, id: &TaskId, found: &FoundTask) -> Result<bool, Error> {
        let active;
        let (position, bytes) = match found {
            FoundTask::Waiting { list, raw, .. } => {
                let target = CancelTarget {
                    position: TaskPosition::Element(list, raw),
                    raw,
                    serial: None,
                    state: Progress::default(),
                };
                return self.bury_cancelled(id, target).await;
            }
            FoundTask::Scheduled { entry, .. } => (TaskPosition::Member(&self.keys.scheduled, entry), entry),
            FoundTask::Parked { serial, entry } => (TaskPosition::Field(&self.keys.parked, serial), entry),
            FoundTask::Active { worker, token, entry } => {
                active = self.keys.active(worker);
                (TaskPosition::Field(&active, token), entry)
            }
            FoundTask::Ended(_) => return Ok(false),
        };
        let Entry { header, raw, .. } = Entry::parse(Token(String::new()), bytes.clone())?;
        let leads = header.state.leads.clone();
        let target = CancelTarget { position, raw: &raw, serial: Some(&header.serial), state: header.state };
        if !self.bury_cancelled(id, target).await? {
            return Ok(false);
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
        let (reply_to, ttl, next) = match Task::parse(target.raw, MAX_BYTES) {
            Ok(task) => {
                let next = follow_ups(&task, &result);
                result.meta = task.meta;
                result.enqueued_at_ms = task.enqueued_at;
                (task.reply_to, task.result_ttl, next)
            }
            Err(refusal) => {
                let next = follow_ups_of_invalid(&refusal, &result);
                (refusal.sender.reply_to, RESULT_TTL, next)
            }
        };
        let serial = target.serial.map_or_else(|| TaskId::random().to_string(), str::to_owned);
        let token = Token(serial.clone());
        let answer = Completion {
            token: token.clone(),
            id: id.clone(),
            result: result.to_line(),
            ttl,
            reply_to,
            follow_ups: next,
        };
        self.bury(&target.position, &token, &dead_letter_header(&serial, None, &result), Some(&answer)).await
    }

    /// The next in line makes the call that a cancelled task was to make for all of them.
    async fn pass_lead_on(&self, hash: &str, serial: &str) -> Result<(), Error> {
        let delivery = Delivery { serial, token: &Token(String::new()), queue: &self.name };
        let LeadOutcome::Done(queues) = self.db.memos().settle(hash, delivery, None).await? else { return Ok(()) };
        ParkedTasks::unpark_first_in_any(&self.db, &queues, &WaitList::memo(hash)).await.map(|_| ())
    }
}
