//! Listing the tasks of a queue that have not ended, by their state, in pages.

use crate::consumer::WaitList;
use crate::protocol::id::Token;
use crate::queue::entry::{Entry, EntryHeader};
use crate::{Error, Queue, TaskId, UnixMs, WorkerId};

/// How many tasks are read at a time: each may be a megabyte.
const PAGE_SIZE: usize = 20;

/// A state of tasks that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// Pushed and not yet claimed, in the order in which they will be.
    Waiting,
    /// Waiting for a retry or a delay, in the order of their times.
    Scheduled,
    /// Waiting for a limit, an upstream or another task, list by list in their order.
    Parked,
    /// Held by a worker, worker by worker.
    Active,
}

/// A task that has not ended.
#[derive(Debug, Clone)]
pub struct ListedTask {
    /// What Redial keeps with it; `None` if it was not claimed yet, or another version wrote it.
    pub header: Option<EntryHeader>,
    /// The producer's bytes, exactly.
    pub raw: Vec<u8>,
    /// What it waits for.
    pub waits_for: Option<WaitList>,
    /// When it can be claimed.
    pub due: Option<UnixMs>,
    /// The worker that holds it.
    pub worker: Option<WorkerId>,
}

impl ListedTask {
    fn waiting(raw: Vec<u8>) -> Self {
        Self { header: None, raw, waits_for: None, due: None, worker: None }
    }

    fn stored(entry: Vec<u8>) -> Self {
        match Entry::parse(Token(String::new()), entry.clone()) {
            Ok(Entry { header, raw, .. }) => Self { header: Some(header), ..Self::waiting(raw) },
            Err(_) => Self::waiting(entry),
        }
    }

    /// The id that Redial gave the task if its producer gave it none.
    pub fn derived_id(&self) -> Option<TaskId> {
        self.header.as_ref().map(|header| TaskId::derive(&header.serial, header.first_seen))
    }
}

impl Queue {
    /// Lists up to `limit` tasks in a state, without the first `skip`. Tasks that move meanwhile may be missed or listed twice.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn list(&self, state: LiveState, skip: usize, limit: usize) -> Result<Vec<ListedTask>, Error> {
        let (mut listed, mut skip) = (Vec::new(), skip);
        for part in self.parts().await? {
            let most = limit - listed.len();
            listed.extend(match state {
                _ if most == 0 => break,
                LiveState::Waiting => part.list_waiting(&mut skip, most).await?,
                LiveState::Scheduled => part.list_scheduled(&mut skip, most).await?,
                LiveState::Parked => part.list_parked(&mut skip, most).await?,
                LiveState::Active => part.list_active(&mut skip, most).await?,
            });
        }
        Ok(listed)
    }

    // Each of these lowers `skip` by what it passes over, for the next part of the queue.

    async fn list_waiting(&self, skip: &mut usize, limit: usize) -> Result<Vec<ListedTask>, Error> {
        let mut listed = Vec::new();
        for list in [&self.keys.handoff, &self.keys.waiting] {
            let mut length = redis::cmd("LLEN");
            length.arg(list);
            let length: usize = self.db.run(async |connection| length.query_async(connection).await).await?;
            while *skip < length && listed.len() < limit {
                let most = PAGE_SIZE.min(limit - listed.len());
                // From the right, where tasks are claimed.
                let (from, to) = (-index(*skip + most), -index(*skip + 1));
                let mut range = redis::cmd("LRANGE");
                range.arg(list).arg(from).arg(to);
                let page: Vec<Vec<u8>> = self.db.run(async |connection| range.query_async(connection).await).await?;
                if page.is_empty() {
                    break;
                }
                *skip += page.len();
                listed.extend(page.into_iter().rev().map(ListedTask::waiting));
            }
            *skip = skip.saturating_sub(length);
        }
        Ok(listed)
    }

    async fn list_scheduled(&self, skip: &mut usize, limit: usize) -> Result<Vec<ListedTask>, Error> {
        let mut listed = Vec::new();
        while listed.len() < limit {
            let serials = self.range(&self.keys.scheduled, *skip, PAGE_SIZE.min(limit - listed.len())).await?;
            if serials.is_empty() {
                *skip = skip.saturating_sub(self.cardinality(&self.keys.scheduled).await?);
                break;
            }
            *skip += serials.len();
            let due_times = serials.iter().map(|(_, due)| UnixMs::from_double(*due));
            let entries = self.stored_entries(&serials).await?;
            let with_due = |(due, entry): (UnixMs, Option<Vec<u8>>)| {
                Some(ListedTask { due: Some(due), ..ListedTask::stored(entry?) })
            };
            listed.extend(due_times.zip(entries).filter_map(with_due));
        }
        Ok(listed)
    }

    async fn list_parked(&self, skip: &mut usize, limit: usize) -> Result<Vec<ListedTask>, Error> {
        let lists = self.wait_lists(usize::MAX).await?;
        self.list_parked_here(&lists, skip, limit).await
    }

    /// Lists up to `limit` tasks that are parked in these wait lists, without the first `skip`.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn list_parked_in(
        &self,
        lists: &[WaitList],
        skip: usize,
        limit: usize,
    ) -> Result<Vec<ListedTask>, Error> {
        let (mut listed, mut skip) = (Vec::new(), skip);
        for part in self.parts().await? {
            listed.extend(part.list_parked_here(lists, &mut skip, limit - listed.len()).await?);
        }
        Ok(listed)
    }

    async fn list_parked_here(
        &self,
        lists: &[WaitList],
        skip: &mut usize,
        limit: usize,
    ) -> Result<Vec<ListedTask>, Error> {
        let mut listed = Vec::new();
        for list in lists {
            let key = self.keys.wait_list(list);
            let count = self.cardinality(&key).await?;
            while *skip < count && listed.len() < limit {
                let serials = self.range(&key, *skip, PAGE_SIZE.min(limit - listed.len())).await?;
                if serials.is_empty() {
                    break;
                }
                *skip += serials.len();
                let entries = self.stored_entries(&serials).await?;
                let parked = |entry| ListedTask { waits_for: Some(list.clone()), ..ListedTask::stored(entry) };
                listed.extend(entries.into_iter().flatten().map(parked));
            }
            *skip = skip.saturating_sub(count);
        }
        Ok(listed)
    }

    async fn list_active(&self, skip: &mut usize, limit: usize) -> Result<Vec<ListedTask>, Error> {
        let mut listed = Vec::new();
        for info in self.overview().await?.workers {
            let active = self.keys.active(&info.worker);
            let mut cursor = "0".to_owned();
            while listed.len() < limit {
                let mut scan = redis::cmd("HSCAN");
                scan.arg(&active).arg(&cursor).arg("COUNT").arg(PAGE_SIZE);
                let (next, page): (String, Vec<(String, Vec<u8>)>) =
                    self.db.run(async |connection| scan.query_async(connection).await).await?;
                let passed_over = (*skip).min(page.len());
                *skip -= passed_over;
                let held =
                    |entry: Vec<u8>| ListedTask { worker: Some(info.worker.clone()), ..ListedTask::stored(entry) };
                listed.extend(page.into_iter().skip(passed_over).map(|(_, entry)| held(entry)));
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    /// How many tasks are parked in each of these wait lists.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn parked_counts(&self, lists: &[WaitList]) -> Result<Vec<u64>, Error> {
        if lists.is_empty() {
            return Ok(Vec::new());
        }
        let mut sums = vec![0; lists.len()];
        for part in self.parts().await? {
            let mut count = redis::pipe();
            for list in lists {
                count.cmd("ZCARD").arg(part.keys.wait_list(list));
            }
            let counts: Vec<u64> = self.db.run(async |connection| count.query_async(connection).await).await?;
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        Ok(sums)
    }

    /// What tasks of this queue wait for. Wait lists are kept among the deadlines of tasks: at most about this many thousand of both are
    /// read.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn wait_lists(&self, max_thousands: usize) -> Result<Vec<WaitList>, Error> {
        let mut lists = Vec::new();
        for part in self.parts().await? {
            lists.extend(part.wait_lists_here(max_thousands).await?);
        }
        lists.sort_by_key(WaitList::to_words);
        lists.dedup();
        Ok(lists)
    }

    async fn wait_lists_here(&self, max_thousands: usize) -> Result<Vec<WaitList>, Error> {
        let (mut lists, mut cursor) = (Vec::new(), "0".to_owned());
        for _ in 0..max_thousands {
            let mut scan = redis::cmd("ZSCAN");
            scan.arg(&self.keys.watch).arg(&cursor).arg("COUNT").arg(1_000);
            let (next, page): (String, Vec<(String, f64)>) =
                self.db.run(async |connection| scan.query_async(connection).await).await?;
            // The others are the serials of tasks that have a deadline.
            lists.extend(page.iter().filter_map(|(words, _)| WaitList::parse(words)));
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        Ok(lists)
    }

    async fn cardinality(&self, key: &str) -> Result<usize, Error> {
        let mut count = redis::cmd("ZCARD");
        count.arg(key);
        self.db.run(async |connection| count.query_async(connection).await).await
    }

    async fn range(&self, key: &str, skip: usize, most: usize) -> Result<Vec<(String, f64)>, Error> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(key).arg(skip).arg(index(skip + most) - 1).arg("WITHSCORES");
        self.db.run(async |connection| range.query_async(connection).await).await
    }

    async fn stored_entries(&self, serials: &[(String, f64)]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut get = redis::cmd("HMGET");
        get.arg(&self.keys.stored);
        for (serial, _) in serials {
            get.arg(serial);
        }
        self.db.run(async |connection| get.query_async(connection).await).await
    }
}

fn index(position: usize) -> isize {
    isize::try_from(position).unwrap_or(isize::MAX)
}
