//! Where a task is, found by its id: there is no index, so that the places are looked through, up to a bound.

use serde::Deserialize;

use crate::protocol::id::Token;
use crate::queue::entry::Entry;
use crate::{Error, Queue, Status, TaskId, TaskResult, UnixMs, WorkerId};

/// How many tasks are read at a time: each may have a megabyte.
const PAGE: usize = 50;

/// Where a task is.
#[derive(Debug, Clone)]
pub enum TaskLocation {
    /// On the queue; so many are taken before it.
    Waiting {
        /// How many.
        before: usize,
    },
    /// To be claimed again at this time, after a retry, a delay, or for want of a free place.
    Scheduled {
        /// When.
        due: UnixMs,
    },
    /// Waiting for the answer of another task that makes the same call.
    Parked,
    /// In the hands of this worker.
    Active {
        /// Which.
        worker: WorkerId,
    },
    /// It has its answer.
    Complete(Box<TaskResult>),
    /// It ended without a good answer; its result is still kept, or only its dead letter.
    Dead(Box<TaskResult>),
}

/// What a search found.
#[derive(Debug)]
pub struct Search {
    /// Where the task is; `None` where it was not found.
    pub place: Option<TaskLocation>,
    /// How many tasks were looked at.
    pub looked_at: usize,
    /// The places that hold more than was looked at.
    pub cut_short: Vec<&'static str>,
}

/// A task as it lies somewhere.
#[derive(Debug)]
pub(crate) enum FoundTask {
    /// In one of the lists of what waits.
    Waiting { list: String, raw: Vec<u8>, before: usize },
    /// To be claimed again.
    Scheduled { entry: Vec<u8>, due: UnixMs },
    /// In a line, under its serial.
    Parked { serial: Token, entry: Vec<u8> },
    /// In a worker's hands.
    Active { worker: WorkerId, token: Token, entry: Vec<u8> },
    /// It has its result.
    Ended(Box<TaskResult>),
}

impl From<FoundTask> for TaskLocation {
    fn from(found: FoundTask) -> Self {
        match found {
            FoundTask::Waiting { before, .. } => Self::Waiting { before },
            FoundTask::Scheduled { due, .. } => Self::Scheduled { due },
            FoundTask::Parked { .. } => Self::Parked,
            FoundTask::Active { worker, .. } => Self::Active { worker },
            FoundTask::Ended(result) if result.status == Status::Ok => Self::Complete(result),
            FoundTask::Ended(result) => Self::Dead(result),
        }
    }
}

impl Queue {
    /// Looks for a task: under its result's key first, which costs nothing, then through the places, at most `most` tasks of
    /// each, those first that are taken first. In the order in which tasks move, so that one on its way is not missed.
    ///
    /// # Errors
    /// That of Redis; [`Error::Data`] when the result is not Redial's.
    pub async fn find(&self, id: &TaskId, most: usize) -> Result<Search, Error> {
        let (found, mut search) = self.locate(id, most).await?;
        search.place = found.map(TaskLocation::from);
        Ok(search)
    }

    /// The same, and the task itself.
    pub(crate) async fn locate(&self, id: &TaskId, most: usize) -> Result<(Option<FoundTask>, Search), Error> {
        let mut search = Search { place: None, looked_at: 0, cut_short: Vec::new() };
        let found = self.look_for(id, most, &mut search).await?;
        Ok((found, search))
    }

    async fn look_for(&self, id: &TaskId, most: usize, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        if let Some(result) = self.ended(id).await? {
            return Ok(Some(FoundTask::Ended(result)));
        }
        let keys = &self.keys;
        for (list, name) in [(&keys.waiting, "waiting"), (&keys.handoff, "handoff")] {
            if let Some(found) = self.in_list(id, list, name, most, search).await? {
                return Ok(Some(found));
            }
        }
        if let Some(found) = self.in_scheduled(id, most, search).await? {
            return Ok(Some(found));
        }
        if let Some((serial, entry)) = self.in_hash(id, &keys.parked, "parked", most, search).await? {
            return Ok(Some(FoundTask::Parked { serial, entry }));
        }
        for info in self.overview().await?.workers {
            if let Some((token, entry)) = self.in_hash(id, &keys.active(&info.worker), "active", most, search).await? {
                return Ok(Some(FoundTask::Active { worker: info.worker, token, entry }));
            }
        }
        if let Some(result) = self.ended(id).await? {
            return Ok(Some(FoundTask::Ended(result)));
        }
        self.in_dead(id, most, search).await
    }

    /// The result of a task that has one.
    pub(crate) async fn ended(&self, id: &TaskId) -> Result<Option<Box<TaskResult>>, Error> {
        let Some(json) = self.result(id).await? else { return Ok(None) };
        serde_json::from_str(&json).map(Some).map_err(|error| Error::Data(format!("the result of {id}: {error}")))
    }

    async fn in_list(
        &self,
        id: &TaskId,
        list: &str,
        name: &'static str,
        most: usize,
        search: &mut Search,
    ) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < most {
            // From the right, where tasks are taken.
            let (from, to) = (-index(seen + PAGE), -index(seen) - 1);
            let mut range = redis::cmd("LRANGE");
            range.arg(list).arg(from).arg(to);
            let page: Vec<Vec<u8>> = self.db.run(async |connection| range.query_async(connection).await).await?;
            search.looked_at += page.len();
            let is_last = page.len() < PAGE;
            if let Some((n, raw)) = page.into_iter().rev().enumerate().find(|(_, raw)| is(raw, id)) {
                return Ok(Some(FoundTask::Waiting { list: list.to_owned(), raw, before: seen + n }));
            }
            if is_last {
                return Ok(None);
            }
            seen += PAGE;
        }
        search.cut_short.push(name);
        Ok(None)
    }

    async fn in_scheduled(&self, id: &TaskId, most: usize, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < most {
            let mut range = redis::cmd("ZRANGE");
            range.arg(&self.keys.scheduled).arg(seen).arg(index(seen + PAGE) - 1).arg("WITHSCORES");
            let page: Vec<(Vec<u8>, f64)> = self.db.run(async |connection| range.query_async(connection).await).await?;
            search.looked_at += page.len();
            let is_last = page.len() < PAGE;
            if let Some((entry, due)) = page.into_iter().find(|(entry, _)| is_entry(entry, id)) {
                return Ok(Some(FoundTask::Scheduled { entry, due: UnixMs::from_double(due) }));
            }
            if is_last {
                return Ok(None);
            }
            seen += PAGE;
        }
        search.cut_short.push("scheduled");
        Ok(None)
    }

    async fn in_hash(
        &self,
        id: &TaskId,
        hash: &str,
        name: &'static str,
        most: usize,
        search: &mut Search,
    ) -> Result<Option<(Token, Vec<u8>)>, Error> {
        let (mut cursor, mut seen) = (0_u64, 0);
        while seen < most {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(hash).arg(cursor).arg("COUNT").arg(PAGE);
            // Fields and values by turns.
            let (next, page): (u64, Vec<Vec<u8>>) =
                self.db.run(async |connection| scan.query_async(connection).await).await?;
            let entries = page.len() / 2;
            search.looked_at += entries;
            let mut words = page.into_iter();
            while let (Some(field), Some(entry)) = (words.next(), words.next()) {
                if is_entry(&entry, id) {
                    return Ok(Some((Token(String::from_utf8_lossy(&field).into_owned()), entry)));
                }
            }
            if next == 0 {
                return Ok(None);
            }
            (cursor, seen) = (next, seen + entries);
        }
        search.cut_short.push(name);
        Ok(None)
    }

    async fn in_dead(&self, id: &TaskId, most: usize, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < most {
            let page = self.dead_page(seen).await?;
            search.looked_at += page.len();
            if page.is_empty() {
                return Ok(None);
            }
            seen += page.len();
            if let Some(letter) = page.into_iter().find(|letter| letter.id() == Some(id)) {
                return Ok(Some(FoundTask::Ended(Box::new(letter.result))));
            }
        }
        search.cut_short.push("dead");
        Ok(None)
    }
}

fn index(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

fn is_entry(entry: &[u8], id: &TaskId) -> bool {
    let given = |entry: &Entry| TaskId::derive(&entry.header.serial, entry.header.first_seen) == *id;
    Entry::parse(Token(String::new()), entry.to_vec()).is_ok_and(|entry| is(&entry.raw, id) || given(&entry))
}

/// Whether a task has this id, also one that a worker would refuse for something else.
fn is(raw: &[u8], id: &TaskId) -> bool {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_slice::<Named>(raw).is_ok_and(|task| task.id == id.as_str())
}
