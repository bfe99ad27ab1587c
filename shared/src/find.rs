//! Where a task is, found by its id: there is no index, so that the places are looked through, up to a bound.

use serde::Deserialize;

use crate::entry::Entry;
use crate::id::Token;
use crate::{Error, Queue, Status, TaskId, TaskResult, UnixMs, WorkerId};

/// How many tasks are read at a time: each may have a megabyte.
const PAGE: usize = 50;

/// Where a task is.
#[derive(Debug, Clone)]
pub enum Place {
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
    Following,
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
    pub place: Option<Place>,
    /// How many tasks were looked at.
    pub looked_at: usize,
    /// The places that hold more than was looked at.
    pub cut_short: Vec<&'static str>,
}

impl Queue {
    /// Looks for a task: under its result's key first, which costs nothing, then through the places, at most `most` tasks of
    /// each, those first that are taken first. In the order in which tasks move, so that one on its way is not missed.
    ///
    /// # Errors
    /// That of Redis; [`Error::Data`] when the result is not Redial's.
    pub async fn find(&self, id: &TaskId, most: usize) -> Result<Search, Error> {
        let mut search = Search { place: self.ended(id).await?, looked_at: 0, cut_short: Vec::new() };
        if search.place.is_some() {
            return Ok(search);
        }
        let keys = &self.keys;
        for (list, name) in [(&keys.waiting, "waiting"), (&keys.woken, "woken")] {
            if self.in_list(id, list, name, most, &mut search).await? {
                return Ok(search);
            }
        }
        if self.in_scheduled(id, most, &mut search).await? {
            return Ok(search);
        }
        if self.in_hash(id, &keys.following, "following", most, &mut search).await? {
            search.place = Some(Place::Following);
            return Ok(search);
        }
        for hand in self.overview().await?.workers {
            if self.in_hash(id, &keys.active(&hand.worker), "active", most, &mut search).await? {
                search.place = Some(Place::Active { worker: hand.worker });
                return Ok(search);
            }
        }
        search.place = self.ended(id).await?;
        if search.place.is_none() {
            self.in_dead(id, most, &mut search).await?;
        }
        Ok(search)
    }

    async fn ended(&self, id: &TaskId) -> Result<Option<Place>, Error> {
        let Some(json) = self.result(id).await? else { return Ok(None) };
        let result: TaskResult =
            serde_json::from_str(&json).map_err(|error| Error::Data(format!("the result of {id}: {error}")))?;
        let result = Box::new(result);
        Ok(Some(if result.status == Status::Ok { Place::Complete(result) } else { Place::Dead(result) }))
    }

    async fn in_list(
        &self,
        id: &TaskId,
        list: &str,
        name: &'static str,
        most: usize,
        search: &mut Search,
    ) -> Result<bool, Error> {
        let mut seen = 0;
        while seen < most {
            // From the right, where tasks are taken.
            let (from, to) = (-index(seen + PAGE), -index(seen) - 1);
            let mut range = redis::cmd("LRANGE");
            range.arg(list).arg(from).arg(to);
            let page: Vec<Vec<u8>> = self.link.run(async |wire| range.query_async(wire).await).await?;
            search.looked_at += page.len();
            if let Some(before) = page.iter().rev().position(|raw| is(raw, id)) {
                search.place = Some(Place::Waiting { before: seen + before });
                return Ok(true);
            }
            if page.len() < PAGE {
                return Ok(false);
            }
            seen += page.len();
        }
        search.cut_short.push(name);
        Ok(false)
    }

    async fn in_scheduled(&self, id: &TaskId, most: usize, search: &mut Search) -> Result<bool, Error> {
        let mut seen = 0;
        while seen < most {
            let mut range = redis::cmd("ZRANGE");
            range.arg(&self.keys.scheduled).arg(seen).arg(index(seen + PAGE) - 1).arg("WITHSCORES");
            let page: Vec<(Vec<u8>, f64)> = self.link.run(async |wire| range.query_async(wire).await).await?;
            search.looked_at += page.len();
            if let Some((_, due)) = page.iter().find(|(entry, _)| is_entry(entry, id)) {
                search.place = Some(Place::Scheduled { due: UnixMs::from_double(*due) });
                return Ok(true);
            }
            if page.len() < PAGE {
                return Ok(false);
            }
            seen += page.len();
        }
        search.cut_short.push("scheduled");
        Ok(false)
    }

    async fn in_hash(
        &self,
        id: &TaskId,
        hash: &str,
        name: &'static str,
        most: usize,
        search: &mut Search,
    ) -> Result<bool, Error> {
        let (mut cursor, mut seen) = (0_u64, 0);
        while seen < most {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(hash).arg(cursor).arg("COUNT").arg(PAGE);
            // Fields and values by turns.
            let (next, page): (u64, Vec<Vec<u8>>) = self.link.run(async |wire| scan.query_async(wire).await).await?;
            let entries = page.len() / 2;
            search.looked_at += entries;
            if page.iter().skip(1).step_by(2).any(|entry| is_entry(entry, id)) {
                return Ok(true);
            }
            if next == 0 {
                return Ok(false);
            }
            (cursor, seen) = (next, seen + entries);
        }
        search.cut_short.push(name);
        Ok(false)
    }

    async fn in_dead(&self, id: &TaskId, most: usize, search: &mut Search) -> Result<(), Error> {
        let mut seen = 0;
        while seen < most {
            let page = self.dead_page(seen).await?;
            search.looked_at += page.len();
            if page.is_empty() {
                return Ok(());
            }
            seen += page.len();
            if let Some(letter) = page.into_iter().find(|letter| letter.id() == Some(id)) {
                search.place = Some(Place::Dead(Box::new(letter.result)));
                return Ok(());
            }
        }
        search.cut_short.push("dead");
        Ok(())
    }
}

fn index(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

fn is_entry(entry: &[u8], id: &TaskId) -> bool {
    Entry::parse(Token(String::new()), entry.to_vec()).is_ok_and(|entry| is(&entry.raw, id))
}

/// Whether a task has this id, also one that a worker would refuse for something else.
fn is(raw: &[u8], id: &TaskId) -> bool {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_slice::<Named>(raw).is_ok_and(|task| task.id == id.as_str())
}
