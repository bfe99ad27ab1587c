//! Parked tasks: they wait in Redis and occupy no worker, for example until the leader of their memo has its answer.
//!
//! A hash holds them by serial, and the serial fences them: the script that ends one also removes it from the hash, so that each gets
//! one answer, however many workers try.

use super::wait_list::WaitReason;
use std::time::Duration;

use super::{Completion, Consumer, MAX_BATCH, MAX_BATCH_BYTES, Selection, WaitList};
use crate::db::Db;
use crate::protocol::id::Token;
use crate::queue::entry::{Entry, EntryHeader};
use crate::script::millis;
use crate::script::stored::{BuriedTask, BuryStored, DueChecks, DueChecksReply, WatchList};
use crate::script::task::{Park, ParkedPageReply, ReadParkedPage, Unpark};
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
#[derive(Debug)]
pub enum DueCheck {
    /// Of a wait list.
    List(WaitList),
    /// Of a stored task whose deadline has passed. Its token is its serial.
    Deadline(Entry),
    /// The same, of a task that this version cannot read.
    Unreadable(Token),
}

/// The checks that were due at one time.
#[derive(Debug)]
pub struct CheckRound {
    /// The checks.
    pub due: Vec<DueCheck>,
    /// When the next one is due.
    pub next_in: Option<Duration>,
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
            stored: &keys.stored,
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

    /// The wait lists of this queue that are due for a check, and the stored tasks whose deadline has passed, at most [`MAX_BATCH`]. Each
    /// is due again after `look_in` until its list is empty or it has ended.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn due_checks(&self, look_in: Duration) -> Result<CheckRound, Error> {
        let keys = &self.queue.keys;
        let call = DueChecks {
            watch: &keys.watch,
            stored: &keys.stored,
            recheck_in_ms: millis(look_in),
            max_checks: MAX_BATCH,
            max_bytes: MAX_BATCH_BYTES,
        };
        let DueChecksReply { next_in, due } = self.queue.db.call(&call).await?;
        Ok(CheckRound { due: due.into_iter().filter_map(DueCheck::parse).collect(), next_in })
    }
}

impl DueCheck {
    fn parse((name, entry): (String, Vec<u8>)) -> Option<Self> {
        if entry.is_empty() {
            return WaitList::parse(&name).map(Self::List);
        }
        let token = Token(name);
        Some(Entry::parse(token.clone(), entry).map_or(Self::Unreadable(token), Self::Deadline))
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
        look.cmd("HEXISTS").arg(&self.queue.keys.stored).arg(serial);
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
            stored: &keys.stored,
            watch: &keys.watch,
            list_name: &self.list,
            max_tasks: most.clamp(1, MAX_BATCH),
            max_bytes: MAX_BATCH_BYTES,
        };
        let ParkedPageReply { left, tasks } = self.queue.db.call(&call).await?;
        let (entries, unreadable) = Entry::parse_all(tasks);
        let unreadable = unreadable.into_iter().map(|(token, _)| token).collect();
        Ok(ParkedPage { left, entries, unreadable })
    }

    /// Completes parked tasks. For each: whether it was still parked; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn finish(&self, answers: &[Completion]) -> Result<Vec<bool>, Error> {
        self.queue.finish_stored(answers).await
    }

    /// Ends a parked task as a dead letter. `false`: it is no longer parked.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn bury(&self, token: &Token, letter: &str, answer: Option<&Completion>) -> Result<bool, Error> {
        Ok(self.queue.bury_stored(&[(token, letter, answer)]).await?.contains(&true))
    }

    /// Sets when the list is checked next, unless it is empty. Returns how many tasks it has.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn check_in(&self, wait: Duration) -> Result<usize, Error> {
        let (wait_list, watch) = (&self.index, &self.queue.keys.watch);
        self.queue.db.call(&WatchList { wait_list, watch, list_name: &self.list, check_in_ms: millis(wait) }).await
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
            stored: &keys.stored,
            scheduled: &keys.scheduled,
            stats: &keys.stats,
            serial: task.map(Token::as_str).unwrap_or_default(),
            selection,
        };
        Ok(self.queue.db.call(&call).await?.len())
    }
}

impl Queue {
    /// Completes scheduled and parked tasks. For each: whether it was still stored; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn finish_stored(&self, answers: &[Completion]) -> Result<Vec<bool>, Error> {
        let done = self.finish(&self.keys.stored, answers).await?;
        let ended = answers.iter().zip(&done).filter(|(_, done)| **done).map(|(task, _)| &task.token);
        self.forget_stored(&ended.collect::<Vec<_>>()).await?;
        self.deliver_soon(answers, &done);
        Ok(done)
    }

    /// Ends scheduled and parked tasks as dead letters, at most [`MAX_BATCH`], each by its serial and with the header of its letter and,
    /// if it has an id, its result. For each: whether it was still stored; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn bury_stored(&self, letters: &[(&Token, &str, Option<&Completion>)]) -> Result<Vec<bool>, Error> {
        let keys = &self.keys;
        let answer_keys: Vec<_> = letters
            .iter()
            .map(|(_, _, answer)| answer.map(|answer| self.answer_keys(answer)).unwrap_or_default())
            .collect();
        let tasks: Vec<BuriedTask<'_>> = letters
            .iter()
            .zip(&answer_keys)
            .map(|((serial, letter_header, answer), keys)| BuriedTask {
                serial: serial.as_str(),
                letter_header,
                ending: answer.map(|answer| self.ending(answer, keys)),
            })
            .collect();
        let call = BuryStored {
            stored: &keys.stored,
            scheduled: &keys.scheduled,
            watch: &keys.watch,
            dead: &keys.dead,
            stats: &keys.stats,
            replies: &keys.replies,
            waiters: &keys.waiters,
            waiting: &keys.waiting,
            tasks: &tasks,
        };
        let done = self.db.call(&call).await?;
        let answered = letters.iter().zip(&done).filter_map(|((_, _, answer), done)| Some(((*answer)?, *done)));
        let (answers, were_buried): (Vec<&Completion>, Vec<bool>) = answered.unzip();
        self.deliver_soon(&answers, &were_buried);
        Ok(done)
    }

    /// Lets workers claim a scheduled or parked task now, wherever it waits.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn make_due(&self, serial: &Token) -> Result<(), Error> {
        let mut add = redis::cmd("ZADD");
        add.arg(&self.keys.scheduled).arg("LT").arg(0).arg(serial.as_str());
        self.db.run(async |connection| add.exec_async(connection).await).await
    }

    /// Makes the check of one of its wait lists due now, if that is watched.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn check_now(&self, list: &WaitList) -> Result<(), Error> {
        let mut add = redis::cmd("ZADD");
        add.arg(&self.keys.watch).arg("XX").arg(0).arg(list.to_words());
        self.db.run(async |connection| add.exec_async(connection).await).await
    }
}

/// A task's position in it; `None` for the order of arrival. Behind a breaker the oldest tasks come first, so that tasks whose
/// call failed stand before those that were not called yet.
fn position(list: &WaitList, header: &EntryHeader) -> Option<u64> {
    match list.reason {
        WaitReason::Memo | WaitReason::Limit | WaitReason::InFlight => None,
        WaitReason::Breaker => Some(header.first_seen.0),
    }
}
