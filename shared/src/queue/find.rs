//! Finding a task by its id. There is no index: each state is searched, up to a limit.

use serde::Deserialize;

use crate::protocol::id::Token;
use crate::queue::entry::Entry;
use crate::{Error, Queue, Status, TaskId, TaskResult, UnixMs, WorkerId};

/// How many tasks are read at a time: each may be a megabyte.
const PAGE_SIZE: usize = 50;

/// Where a task is.
#[derive(Debug, Clone)]
pub enum TaskLocation {
    /// On the queue, waiting to be claimed.
    Waiting {
        /// How many tasks will be claimed before it.
        before: usize,
    },
    /// Waiting for a retry, a delay or a rate limit.
    Scheduled {
        /// When it can be claimed.
        due: UnixMs,
    },
    /// Waiting for another task that makes the same call, or for an upstream that is down.
    Parked,
    /// Claimed by a worker.
    Active {
        /// The worker.
        worker: WorkerId,
    },
    /// It succeeded; its result is still kept.
    Complete(Box<TaskResult>),
    /// It failed for good; its result or its dead letter is still kept.
    Dead(Box<TaskResult>),
}

/// The outcome of a search.
#[derive(Debug)]
pub struct Search {
    /// Where the task is; `None` if it was not found.
    pub location: Option<TaskLocation>,
    /// How many tasks were read.
    pub looked_at: usize,
    /// The states that have more tasks than were read.
    pub cut_short: Vec<&'static str>,
}

/// A task together with the bytes that identify it where it was found.
#[derive(Debug)]
pub(crate) enum FoundTask {
    /// In one of the lists of waiting tasks.
    Waiting { list: String, raw: Vec<u8>, before: usize },
    /// In the sorted set of scheduled tasks.
    Scheduled { entry: Vec<u8>, due: UnixMs },
    /// Parked in a wait list, under its serial.
    Parked { serial: Token, entry: Vec<u8> },
    /// Claimed by a worker.
    Active { worker: WorkerId, token: Token, entry: Vec<u8> },
    /// Finished, with this result.
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
    /// Finds a task: first by its result's key, which costs one command, then by reading up to `limit` tasks in each state, in the
    /// order in which they will be claimed. States are searched in the order in which tasks pass through them, so that a task that
    /// moves on meanwhile is not missed.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, or Redial did not write the result ([`Error::Data`]).
    pub async fn find(&self, id: &TaskId, limit: usize) -> Result<Search, Error> {
        let (found, mut search) = self.locate(id, limit).await?;
        search.location = found.map(TaskLocation::from);
        Ok(search)
    }

    /// The same, and the task itself.
    pub(crate) async fn locate(&self, id: &TaskId, limit: usize) -> Result<(Option<FoundTask>, Search), Error> {
        let mut search = Search { location: None, looked_at: 0, cut_short: Vec::new() };
        let found = self.search_states(id, limit, &mut search).await?;
        Ok((found, search))
    }

    async fn search_states(&self, id: &TaskId, limit: usize, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        if let Some(result) = self.ended(id).await? {
            return Ok(Some(FoundTask::Ended(result)));
        }
        let keys = &self.keys;
        for (list, name) in [(&keys.waiting, "waiting"), (&keys.handoff, "handoff")] {
            if let Some(found) = self.in_list(id, list, name, limit, search).await? {
                return Ok(Some(found));
            }
        }
        if let Some(found) = self.in_scheduled(id, limit, search).await? {
            return Ok(Some(found));
        }
        if let Some((serial, entry)) = self.in_hash(id, &keys.parked, "parked", limit, search).await? {
            return Ok(Some(FoundTask::Parked { serial, entry }));
        }
        for info in self.overview().await?.workers {
            if let Some((token, entry)) = self.in_hash(id, &keys.active(&info.worker), "active", limit, search).await? {
                return Ok(Some(FoundTask::Active { worker: info.worker, token, entry }));
            }
        }
        if let Some(result) = self.ended(id).await? {
            return Ok(Some(FoundTask::Ended(result)));
        }
        self.in_dead(id, limit, search).await
    }

    /// The result of a task, if it has one.
    pub(crate) async fn ended(&self, id: &TaskId) -> Result<Option<Box<TaskResult>>, Error> {
        let Some(json) = self.result(id).await? else { return Ok(None) };
        serde_json::from_str(&json).map(Some).map_err(|error| Error::Data(format!("the result of {id}: {error}")))
    }

    async fn in_list(
        &self,
        id: &TaskId,
        list: &str,
        name: &'static str,
        limit: usize,
        search: &mut Search,
    ) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < limit {
            // From the right, where tasks are claimed.
            let (from, to) = (-index(seen + PAGE_SIZE), -index(seen) - 1);
            let mut range = redis::cmd("LRANGE");
            range.arg(list).arg(from).arg(to);
            let page: Vec<Vec<u8>> = self.db.run(async |connection| range.query_async(connection).await).await?;
            search.looked_at += page.len();
            let is_last = page.len() < PAGE_SIZE;
            if let Some((n, raw)) = page.into_iter().rev().enumerate().find(|(_, raw)| has_id(raw, id)) {
                return Ok(Some(FoundTask::Waiting { list: list.to_owned(), raw, before: seen + n }));
            }
            if is_last {
                return Ok(None);
            }
            seen += PAGE_SIZE;
        }
        search.cut_short.push(name);
        Ok(None)
    }

    async fn in_scheduled(&self, id: &TaskId, limit: usize, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < limit {
            let mut range = redis::cmd("ZRANGE");
            range.arg(&self.keys.scheduled).arg(seen).arg(index(seen + PAGE_SIZE) - 1).arg("WITHSCORES");
            let page: Vec<(Vec<u8>, f64)> = self.db.run(async |connection| range.query_async(connection).await).await?;
            search.looked_at += page.len();
            let is_last = page.len() < PAGE_SIZE;
            if let Some((entry, due)) = page.into_iter().find(|(entry, _)| is_entry_of(entry, id)) {
                return Ok(Some(FoundTask::Scheduled { entry, due: UnixMs::from_double(due) }));
            }
            if is_last {
                return Ok(None);
            }
            seen += PAGE_SIZE;
        }
        search.cut_short.push("scheduled");
        Ok(None)
    }

    async fn in_hash(
        &self,
        id: &TaskId,
        hash: &str,
        name: &'static str,
        limit: usize,
        search: &mut Search,
    ) -> Result<Option<(Token, Vec<u8>)>, Error> {
        let (mut cursor, mut seen) = (0_u64, 0);
        while seen < limit {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(hash).arg(cursor).arg("COUNT").arg(PAGE_SIZE);
            // Fields and values alternate.
            let (next, page): (u64, Vec<Vec<u8>>) =
                self.db.run(async |connection| scan.query_async(connection).await).await?;
            let entries = page.len() / 2;
            search.looked_at += entries;
            let mut words = page.into_iter();
            while let (Some(field), Some(entry)) = (words.next(), words.next()) {
                if is_entry_of(&entry, id) {
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

    async fn in_dead(&self, id: &TaskId, limit: usize, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < limit {
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

fn is_entry_of(entry: &[u8], id: &TaskId) -> bool {
    let has_derived_id = |entry: &Entry| TaskId::derive(&entry.header.serial, entry.header.first_seen) == *id;
    Entry::parse(Token(String::new()), entry.to_vec())
        .is_ok_and(|entry| has_id(&entry.raw, id) || has_derived_id(&entry))
}

/// Whether a task has this id, even if it is invalid otherwise.
fn has_id(raw: &[u8], id: &TaskId) -> bool {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_slice::<Named>(raw).is_ok_and(|task| task.id == id.as_str())
}
