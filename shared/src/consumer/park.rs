//! Parked tasks: they wait in Redis and occupy no worker, for example until the leader of their memo has its answer.
//!
//! A hash holds them by serial, and the serial fences them: the script that ends one also removes it from the hash, so that each gets
//! one answer, however many workers try.

use super::wait_list::WaitReason;
use std::time::Duration;

use super::{Completion, Consumer, MAX_BATCH, MAX_BATCH_BYTES, Selection, TaskPosition, WaitList};
use crate::db::Db;
use crate::protocol::id::Token;
use crate::queue::entry::{Entry, EntryHeader};
use crate::script::millis;
use crate::script::task::{DueChecks, Park, ParkedPageReply, ReadParkedPage, Unpark};
use crate::{Error, Queue, QueueName, UnixMs};

/// The parked tasks of one wait list in one queue.
#[derive(Debug, Clone)]
pub struct ParkedTasks {
    queue: Queue,
    list: String,
    index: String,
}

/// The first tasks of a wait list.
#[derive(Debug)]
pub struct ParkedPage {
    /// How many tasks the list has.
    pub left: usize,
    /// Those that were read. Their token is their serial.
    pub entries: Vec<Entry>,
    /// The tokens of those that this version cannot read.
    pub unreadable: Vec<Token>,
}

/// A check that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCheck {
    /// The wait list.
    pub list: WaitList,
    /// The task in it whose deadline has come; `None` for a check of the list itself.
    pub task: Option<Token>,
}

impl Consumer {
    /// Parks a task in `list`, which is checked after `look_in`, and the task at its deadline. `false`: the lease was lost.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn park(
        &self,
        token: &Token,
        header: &EntryHeader,
        list: &WaitList,
        look_in: Duration,
        deadline: Option<UnixMs>,
    ) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let call = Park {
            active: &self.active,
            parked: &keys.parked,
            wait_list: &keys.wait_list(list),
            watch: &keys.watch,
            stats: &keys.stats,
            token: token.as_str(),
            serial: &header.serial,
            header: &header.to_line(),
            list_name: &list.to_words(),
            check_in_ms: millis(look_in),
            deadline_ms: deadline,
            position: position(list, header),
        };
        self.queue.db.call(&call).await
    }

    /// The wait lists of this queue, and the tasks in them, that are due for a check. Each is due again after `look_in` until it is
    /// empty or ended.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn due_checks(&self, look_in: Duration) -> Result<Vec<DueCheck>, Error> {
        let call = DueChecks { watch: &self.queue.keys.watch, recheck_in_ms: millis(look_in), max_checks: MAX_BATCH };
        let names = self.queue.db.call(&call).await?;
        Ok(names.iter().filter_map(|name| DueCheck::parse(name)).collect())
    }
}

impl DueCheck {
    fn parse(name: &str) -> Option<Self> {
        let (list, serial) = WaitList::parse(name)?;
        Some(Self { list, task: serial.map(|serial| Token(serial.to_owned())) })
    }
}

impl ParkedTasks {
    /// Those of `list` in `queue`.
    pub fn new(queue: Queue, list: &WaitList) -> Self {
        Self { index: queue.keys.wait_list(list), list: list.to_words(), queue }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// How many there are.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn count(&self) -> Result<usize, Error> {
        let mut count = redis::cmd("ZCARD");
        count.arg(&self.index);
        self.queue.db.run(async |connection| count.query_async(connection).await).await
    }

    /// Whether the task of this serial is parked in this very list. A task that waits in another one, such as for its upstream,
    /// is not.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn contains(&self, serial: &str) -> Result<bool, Error> {
        // The list alone does not tell: it keeps the serials of completed tasks until it is read.
        let mut look = redis::pipe();
        look.atomic().cmd("ZSCORE").arg(&self.index).arg(serial);
        look.cmd("HEXISTS").arg(&self.queue.keys.parked).arg(serial);
        let (score, is_parked): (Option<f64>, bool) =
            self.queue.db.run(async |connection| look.query_async(connection).await).await?;
        Ok(score.is_some() && is_parked)
    }

    /// Reads the first `most` of them (at most [`MAX_BATCH`]). They stay parked until they are finished, buried or unparked.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn next(&self, most: usize) -> Result<ParkedPage, Error> {
        let keys = &self.queue.keys;
        let call = ReadParkedPage {
            wait_list: &self.index,
            parked: &keys.parked,
            watch: &keys.watch,
            list_name: &self.list,
            max_tasks: most.clamp(1, MAX_BATCH),
            max_bytes: MAX_BATCH_BYTES,
        };
        let ParkedPageReply { left, tasks } = self.queue.db.call(&call).await?;
        let mut page = ParkedPage { left, entries: Vec::new(), unreadable: Vec::new() };
        for (token, entry) in tasks {
            match Entry::parse(token.clone(), entry) {
                Ok(entry) => page.entries.push(entry),
                Err(_) => page.unreadable.push(token),
            }
        }
        Ok(page)
    }

    /// Completes parked tasks. For each: whether it was still parked; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn finish(&self, answers: &[Completion]) -> Result<Vec<bool>, Error> {
        let done = self.queue.finish(&self.queue.keys.parked, answers).await?;
        self.queue.deliver_soon(answers, &done);
        Ok(done)
    }

    /// Ends a parked task as a dead letter. `false`: it is no longer parked.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn bury(&self, token: &Token, letter: &str, answer: Option<&Completion>) -> Result<bool, Error> {
        let position = TaskPosition::Field(&self.queue.keys.parked, token);
        let done = self.queue.bury(&position, token, letter, answer).await?;
        self.queue.deliver_soon(answer.as_slice(), &[done]);
        Ok(done)
    }

    /// Makes a parked task available to workers: this one, or the first one. `false`: it is no longer parked, or none is.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unpark(&self, task: Option<&Token>) -> Result<bool, Error> {
        Ok(self.make_available(task, Selection::Next(1)).await? > 0)
    }

    /// Makes the first task of a wait list available, in the first of these queues that has one. `false`: none has.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unpark_first_in_any(db: &Db, queues: &[QueueName], list: &WaitList) -> Result<bool, Error> {
        for queue in queues {
            if Self::new(db.queue(queue.clone()), list).unpark(None).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes these tasks of the list available, at most [`MAX_BATCH`]. Returns how many there were. Sent twice, it unparks twice as
    /// many.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unpark_some(&self, which: Selection) -> Result<usize, Error> {
        let which = if let Selection::Next(most) = which { Selection::Next(most.min(MAX_BATCH)) } else { which };
        self.make_available(None, which).await
    }

    async fn make_available(&self, task: Option<&Token>, selection: Selection) -> Result<usize, Error> {
        let keys = &self.queue.keys;
        let call = Unpark {
            wait_list: &self.index,
            parked: &keys.parked,
            scheduled: &keys.scheduled,
            watch: &keys.watch,
            stats: &keys.stats,
            list_name: &self.list,
            serial: task.map(Token::as_str).unwrap_or_default(),
            selection,
        };
        Ok(self.queue.db.call(&call).await?.len())
    }
}

/// A task's position in it; `None` for the order of arrival. Behind a breaker the oldest tasks come first, so that tasks whose
/// call failed stand before those that were not called yet.
fn position(list: &WaitList, header: &EntryHeader) -> Option<u64> {
    match list.reason {
        WaitReason::Memo => None,
        WaitReason::Breaker => Some(header.first_seen.0),
    }
}
