//! Why the tasks of a queue wait, and how many.

use crate::consumer::WaitList;
use crate::{Error, Queue};

/// How many limits, and how many upstreams, are asked for tasks that wait: those that were used last.
pub const MAX_WAIT_LISTS: usize = 1_000;

/// Why the tasks of a queue wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueWaits {
    /// For a free slot, or for the end of a pause.
    pub waiting: u64,
    /// For a retry or a delay.
    pub scheduled: u64,
    /// For a limit or an upstream; the lists that are not empty.
    pub lists: Vec<(WaitList, u64)>,
    /// All others that are parked: most of them wait for the answer of another task.
    pub answers: u64,
}

impl Queue {
    /// Why tasks of the queue wait, by these wait lists: see [`Db::recent_wait_lists`](crate::Db::recent_wait_lists). It reads no tasks.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn waits(&self, lists: &[WaitList]) -> Result<QueueWaits, Error> {
        let counts = self.counts().await?;
        let sizes = if counts.parked > 0 { self.parked_counts(lists).await? } else { Vec::new() };
        let answers = counts.parked.saturating_sub(sizes.iter().sum());
        let lists = lists.iter().cloned().zip(sizes).filter(|(_, tasks)| *tasks > 0).collect();
        Ok(QueueWaits { waiting: counts.waiting, scheduled: counts.scheduled, lists, answers })
    }
}
