//! ParkedTasks: tasks that wait in Redis in a line, holding no slot, such as for the answer of the one that leads their memo.
//!
//! They lie in a hash by serial, and the serial fences them: whoever answers one takes it out of the hash in the same
//! script, so that each is answered once, however many workers try.

use std::time::Duration;

use super::{Completion, Consumer, MAX_BATCH, MAX_BATCH_BYTES, Selection, TaskPosition, WaitList};
use crate::db::Db;
use crate::protocol::id::Token;
use crate::queue::entry::{Entry, EntryHeader};
use crate::script;
use crate::{Error, Queue, QueueName, UnixMs};

/// The tasks of one line in one queue.
#[derive(Debug, Clone)]
pub struct ParkedTasks {
    queue: Queue,
    list: String,
    index: String,
}

/// Some followers, the first in line.
#[derive(Debug)]
pub struct ParkedPage {
    /// How many there are in all.
    pub left: usize,
    /// Those read. Their token is their serial.
    pub entries: Vec<Entry>,
    /// Those that this version can't read.
    pub unreadable: Vec<Token>,
}

/// What it is time to look after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCheck {
    /// The wait list.
    pub list: WaitList,
    /// A task in it whose deadline has come; without one it is the line itself.
    pub task: Option<Token>,
}

impl Consumer {
    /// Parks a task in `line`, which is looked after from `look_in` on. `false`: the lease was lost.
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
        let position = list.position(header).map(|position| position.to_string());
        let keys = &self.queue.keys;
        let call = script::FOLLOW
            .call()
            .key(&self.active)
            .key(&keys.parked)
            .key(keys.wait_list(list))
            .key(&keys.watch)
            .key(&keys.stats)
            .arg(token.as_str())
            .arg(&header.serial)
            .arg(header.to_line())
            .arg(list.to_words())
            .arg(look_in.as_millis())
            .arg(deadline.map(|at| at.to_string()).unwrap_or_default())
            .arg(position.unwrap_or_default());
        self.queue.db.invoke(&call).await
    }

    /// The lines of this queue, and the tasks in them, that it is time to look after. Each will be named again after `look_in`, until
    /// it is settled.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn due_checks(&self, look_in: Duration) -> Result<Vec<DueCheck>, Error> {
        let call = script::WATCH.call().key(&self.queue.keys.watch).arg(look_in.as_millis()).arg(MAX_BATCH);
        let names: Vec<String> = self.queue.db.invoke(&call).await?;
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
    /// Those of `line` in `queue`.
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

    /// Reads the next of them, at most `most`. They stay followers until they are answered, buried or promoted.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn next(&self, most: usize) -> Result<ParkedPage, Error> {
        let keys = &self.queue.keys;
        let call = script::FOLLOWERS
            .call()
            .key(&self.index)
            .key(&keys.parked)
            .key(&keys.watch)
            .arg(&self.list)
            .arg(most.clamp(1, MAX_BATCH))
            .arg(MAX_BATCH_BYTES);
        let reply: Vec<redis::Value> = self.queue.db.invoke(&call).await?;
        let data = |_| Error::Data("the tasks of a line".into());
        let mut values = reply.into_iter();
        let left = redis::from_redis_value(values.next().unwrap_or(redis::Value::Nil)).map_err(data)?;
        let mut page = ParkedPage { left, entries: Vec::new(), unreadable: Vec::new() };
        while let (Some(serial), Some(entry)) = (values.next(), values.next()) {
            let token = Token(redis::from_redis_value(serial).map_err(data)?);
            match Entry::parse(token.clone(), redis::from_redis_value(entry).map_err(data)?) {
                Ok(entry) => page.entries.push(entry),
                Err(_) => page.unreadable.push(token),
            }
        }
        Ok(page)
    }

    /// Completes followers. For each: whether it was one still; if not, nothing of it was written.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn finish(&self, answers: &[Completion]) -> Result<Vec<bool>, Error> {
        self.queue.finish(&self.queue.keys.parked, answers).await
    }

    /// Ends a follower as a dead letter. `false`: it was none any more.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn bury(&self, token: &Token, letter: &str, answer: &Completion) -> Result<bool, Error> {
        self.queue.bury(&TaskPosition::Field(&self.queue.keys.parked, token), token, letter, Some(answer)).await
    }

    /// Lets a follower run, at once: this one, or the next in line. `false`: there is none any more.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn promote(&self, follower: Option<&Token>) -> Result<bool, Error> {
        Ok(self.run_next(follower, Selection::Next(1)).await? > 0)
    }

    /// Lets the next in line run, in the first of these queues that has one. `false`: none has.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn promote_first_in_any(db: &Db, queues: &[QueueName], list: &WaitList) -> Result<bool, Error> {
        for queue in queues {
            if Self::new(db.queue(queue.clone()), list).promote(None).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets these of the line run, at once, at most [`MAX_BATCH`]. Returns how many there were; sent twice, twice as many run.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn promote_some(&self, which: Selection) -> Result<usize, Error> {
        let which = if let Selection::Next(most) = which { Selection::Next(most.min(MAX_BATCH)) } else { which };
        self.run_next(None, which).await
    }

    async fn run_next(&self, follower: Option<&Token>, which: Selection) -> Result<usize, Error> {
        let keys = &self.queue.keys;
        let call = script::PROMOTE
            .call()
            .key(&self.index)
            .key(&keys.parked)
            .key(&keys.scheduled)
            .key(&keys.watch)
            .key(&keys.stats)
            .arg(&self.list)
            .arg(follower.map(Token::as_str).unwrap_or_default())
            .arg(which);
        let serials: Vec<String> = self.queue.db.invoke(&call).await?;
        Ok(serials.len())
    }
}
