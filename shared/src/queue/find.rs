//! Finding a task by its id. There is no index, which would cost every task something: each state is searched, up to a limit, inside
//! Redis and in short steps.

use serde::Deserialize;

use crate::protocol::id::Token;
use crate::queue::entry::Entry;
use crate::script::stored::{FindEntry, FindEntryReply, FindWaiting, FindWaitingReply};
use crate::{Error, Queue, Status, TaskId, TaskResult, UnixMs, WorkerId};

/// How many tasks are searched in one step.
const PAGE_SIZE: usize = 512;
/// How many bytes of them, beyond the last one: Redis serves no one else meanwhile.
const PAGE_BYTES: usize = 512 << 10;
/// How long a waiting task that was taken off its list to be cancelled cannot be claimed.
const HOLD_MS: u64 = 10_000;

/// What is searched for.
struct WantedTask<'a> {
    id: &'a TaskId,
    json_id: String,
    /// How many tasks to search in each state.
    limit: usize,
    /// The serial that a waiting task gets when it is taken off its list; empty if it is not to be taken.
    serial: String,
}

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

impl TaskLocation {
    /// The name of the task's state.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Scheduled { .. } => "scheduled",
            Self::Parked => "parked",
            Self::Active { .. } => "active",
            Self::Complete(_) => "complete",
            Self::Dead(_) => "dead",
        }
    }
}

/// The outcome of a search.
#[derive(Debug, Default)]
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
    Waiting { before: usize },
    /// It was in one of the lists of waiting tasks, and was taken off: now it is scheduled.
    Taken { entry: Vec<u8>, before: usize },
    /// Stored: scheduled if it has a due time, and parked otherwise.
    Stored { entry: Vec<u8>, due: Option<UnixMs> },
    /// Claimed by a worker.
    Active { worker: WorkerId, token: Token, entry: Vec<u8> },
    /// Finished, with this result.
    Ended(Box<TaskResult>),
}

impl<'a> WantedTask<'a> {
    fn new(id: &'a TaskId, limit: usize, serial: String) -> Self {
        // Writing a string as JSON cannot fail.
        Self { id, json_id: serde_json::to_string(id.as_str()).unwrap_or_default(), limit, serial }
    }
}

impl FoundTask {
    /// The worker that holds it, and under which token.
    pub(crate) fn holder(&self) -> Option<(&WorkerId, &Token)> {
        match self {
            Self::Active { worker, token, .. } => Some((worker, token)),
            _ => None,
        }
    }
}

impl From<FoundTask> for TaskLocation {
    fn from(found: FoundTask) -> Self {
        match found {
            FoundTask::Waiting { before } | FoundTask::Taken { before, .. } => Self::Waiting { before },
            FoundTask::Stored { due, .. } => due.map_or(Self::Parked, |due| Self::Scheduled { due }),
            FoundTask::Active { worker, .. } => Self::Active { worker },
            FoundTask::Ended(result) if result.status == Status::Ok => Self::Complete(result),
            FoundTask::Ended(result) => Self::Dead(result),
        }
    }
}

impl Queue {
    /// Finds a task by searching up to `limit` tasks in each state, and its result's key. States are searched in the order in which tasks
    /// pass through them, so that a task that moves on meanwhile is not missed, and a task whose id was used before is not taken for
    /// the earlier one that has ended.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, or Redial did not write the result ([`Error::Data`]).
    pub async fn find(&self, id: &TaskId, limit: usize) -> Result<Search, Error> {
        let mut search = Search::default();
        let found = self.search_parts(id, limit, &mut search).await?;
        search.location = found.map(|(_, found)| TaskLocation::from(found));
        Ok(search)
    }

    /// The same, with the part of the queue and the bytes that Redis has of the task.
    pub(crate) async fn find_entry(&self, id: &TaskId, limit: usize) -> Result<Option<(Self, FoundTask)>, Error> {
        self.search_parts(id, limit, &mut Search::default()).await
    }

    /// Searches all parts of the queue for a task that has not ended. If it finds none, it returns the one that ended last.
    async fn search_parts(
        &self,
        id: &TaskId,
        limit: usize,
        search: &mut Search,
    ) -> Result<Option<(Self, FoundTask)>, Error> {
        let wanted = WantedTask::new(id, limit, String::new());
        let mut ended: Option<(UnixMs, Self, Box<TaskResult>)> = None;
        for part in self.parts_from_home(id).await? {
            match part.search_states(&wanted, search).await? {
                Some(FoundTask::Ended(result)) => {
                    let at = result.finished_at_ms;
                    if ended.as_ref().is_none_or(|(earlier, ..)| *earlier < at) {
                        ended = Some((at, part, result));
                    }
                }
                Some(found) => return Ok(Some((part, found))),
                None => {}
            }
        }
        search.cut_short.dedup();
        Ok(ended.map(|(_, part, result)| (part, FoundTask::Ended(result))))
    }

    /// Searches this part of the queue for a task that has not ended, and removes it from its list if no worker has claimed it. If it finds none,
    /// it returns one that has ended.
    pub(crate) async fn take(&self, id: &TaskId, limit: usize) -> Result<(Option<FoundTask>, Search), Error> {
        let wanted = WantedTask::new(id, limit, format!("cancel:{}", TaskId::random()));
        let mut search = Search::default();
        let found = self.search_states(&wanted, &mut search).await?;
        Ok((found, search))
    }

    async fn search_states(&self, wanted: &WantedTask<'_>, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let keys = &self.keys;
        for (list, name) in [(&keys.waiting, "waiting"), (&keys.handoff, "handoff")] {
            if let Some(found) = self.in_list(wanted, list, name, search).await? {
                return Ok(Some(found));
            }
        }
        if let Some(found) = self.in_stored(wanted, search).await? {
            return Ok(Some(found));
        }
        for info in self.single().overview().await?.workers {
            if let Some((token, entry)) = self.in_hash(wanted, &keys.active(&info.worker), "active", search).await? {
                return Ok(Some(FoundTask::Active { worker: info.worker, token, entry }));
            }
        }
        if let Some(result) = self.ended(wanted.id).await? {
            return Ok(Some(FoundTask::Ended(result)));
        }
        self.in_dead(wanted, search).await
    }

    /// The result of a task, if it has one.
    pub(crate) async fn ended(&self, id: &TaskId) -> Result<Option<Box<TaskResult>>, Error> {
        let Some(json) = self.result(id).await? else { return Ok(None) };
        serde_json::from_str(&json).map(Some).map_err(|error| Error::Data(format!("the result of {id}: {error}")))
    }

    async fn in_list(
        &self,
        wanted: &WantedTask<'_>,
        list: &str,
        name: &'static str,
        search: &mut Search,
    ) -> Result<Option<FoundTask>, Error> {
        let (stored, scheduled) = (&self.keys.stored, &self.keys.scheduled);
        let (mut seen, mut max_tasks) = (0, 1);
        while seen < wanted.limit {
            let call = FindWaiting {
                list,
                stored,
                scheduled,
                id: wanted.id.as_str(),
                json_id: &wanted.json_id,
                skip: seen,
                max_tasks,
                serial: &wanted.serial,
                hold_ms: HOLD_MS,
            };
            let FindWaitingReply { tasks, bytes, before, taken } = self.db.call(&call).await?;
            search.looked_at += tasks;
            if let Some(before) = before {
                return Ok(Some(match taken {
                    Some(entry) => FoundTask::Taken { entry, before },
                    None => FoundTask::Waiting { before },
                }));
            }
            if tasks < max_tasks {
                return Ok(None);
            }
            seen += tasks;
            max_tasks = (PAGE_BYTES / (bytes / tasks).max(1)).clamp(1, (2 * max_tasks).min(PAGE_SIZE));
        }
        search.cut_short.push(name);
        Ok(None)
    }

    async fn in_stored(&self, wanted: &WantedTask<'_>, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let Some((serial, entry)) = self.in_hash(wanted, &self.keys.stored, "scheduled or parked", search).await?
        else {
            return Ok(None);
        };
        let mut score = redis::cmd("ZSCORE");
        score.arg(&self.keys.scheduled).arg(serial.as_str());
        let due: Option<f64> = self.db.run(async |connection| score.query_async(connection).await).await?;
        Ok(Some(FoundTask::Stored { entry, due: due.map(UnixMs::from_double) }))
    }

    async fn in_hash(
        &self,
        wanted: &WantedTask<'_>,
        held: &str,
        name: &'static str,
        search: &mut Search,
    ) -> Result<Option<(Token, Vec<u8>)>, Error> {
        let (mut cursor, mut seen) = ("0".to_owned(), 0);
        while seen < wanted.limit {
            let call = FindEntry {
                held,
                json_id: &wanted.json_id,
                first_seen_ms: wanted.id.first_seen(),
                cursor: &cursor,
                max_tasks: PAGE_SIZE,
                max_bytes: PAGE_BYTES,
            };
            let FindEntryReply { cursor: next, tasks, candidates } = self.db.call(&call).await?;
            search.looked_at += tasks;
            let found = candidates.into_iter().find(|(_, entry)| is_entry_of(entry, wanted.id));
            if found.is_some() || next == "0" {
                return Ok(found);
            }
            (cursor, seen) = (next, seen + tasks);
        }
        search.cut_short.push(name);
        Ok(None)
    }

    async fn in_dead(&self, wanted: &WantedTask<'_>, search: &mut Search) -> Result<Option<FoundTask>, Error> {
        let mut seen = 0;
        while seen < wanted.limit {
            let page = self.dead_page(seen).await?;
            search.looked_at += page.len();
            if page.is_empty() {
                return Ok(None);
            }
            seen += page.len();
            if let Some(letter) = page.into_iter().find(|letter| letter.id() == Some(wanted.id)) {
                return Ok(Some(FoundTask::Ended(Box::new(letter.result))));
            }
        }
        search.cut_short.push("dead");
        Ok(None)
    }
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
