//! What there is to do in a queue, and what holds back the rest.

use super::Counts;
use crate::consumer::{WaitList, WaitReason};
use crate::db::Db;
use crate::{Error, Queue, UnixMs};

/// What Redis counts for a backlog.
type Counted = (u64, u64, u64, u64, u64, u64, bool);

/// What there is to do in a queue. The numbers are read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many tasks are in each state.
    pub counts: Counts,
    /// How many could be called now: waiting or due. None while the queue is paused.
    pub admissible: u64,
    /// How many are parked for a limit, and for an upstream to come back.
    for_limits: u64,
    for_breakers: u64,
}

impl Backlog {
    /// The parked tasks by what they wait for. Those in none of the wait lists that were asked for wait for another task's answer.
    pub fn parked_by_cause(&self) -> [(WaitReason, u64); 3] {
        let parked = self.counts.parked;
        let limits = self.for_limits.min(parked);
        let breakers = self.for_breakers.min(parked - limits);
        [(WaitReason::Limit, limits), (WaitReason::Breaker, breakers), (WaitReason::Memo, parked - limits - breakers)]
    }
}

impl Db {
    /// The wait lists of the limits that were used last and of the upstreams whose breaker opened last, up to `most` of each.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn recent_wait_lists(&self, most: usize) -> Result<Vec<WaitList>, Error> {
        let limits = self.recent_names(&self.keys().limits(), most).await?;
        let upstreams = self.recent_names(&self.keys().breakers(), most).await?;
        let lists = limits.iter().map(|name| WaitList::limit(name));
        Ok(lists.chain(upstreams.iter().map(|name| WaitList::breaker(name))).collect())
    }
}

impl Queue {
    /// What there is to do at this time by Redis's clock. It reads no tasks, so it is cheap however many there are.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn backlog(&self, now: UnixMs) -> Result<Backlog, Error> {
        let mut ask = self.ask_counts();
        ask.cmd("ZCOUNT").arg(&self.keys.scheduled).arg("-inf").arg(now.0);
        ask.cmd("EXISTS").arg(&self.keys.paused);
        let (waiting, handoff, scheduled, stored, dead, due, is_paused): Counted =
            self.db.run(async |connection| ask.query_async(connection).await).await?;
        let counts = Counts::new(waiting, handoff, scheduled, stored, dead);
        let admissible = if is_paused { 0 } else { counts.waiting + due };
        Ok(Backlog { counts, admissible, ..Backlog::default() })
    }

    /// Counts the parked tasks of a backlog by these wait lists of the queue.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn count_parked(&self, backlog: &mut Backlog, lists: &[WaitList]) -> Result<(), Error> {
        let sizes = self.parked_counts(lists).await?;
        let total = |reason| {
            let counted = lists.iter().zip(&sizes).filter(|(list, _)| list.reason == reason);
            counted.map(|(_, size)| size).sum()
        };
        (backlog.for_limits, backlog.for_breakers) = (total(WaitReason::Limit), total(WaitReason::Breaker));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_add_up_to_the_parked_tasks_whatever_the_lists_say() {
        for (parked, for_limits, for_breakers, expected) in
            [(5, 2, 1, [2, 1, 2]), (0, 3, 3, [0, 0, 0]), (4, 3, 9, [3, 1, 0]), (7, 0, 0, [0, 0, 7])]
        {
            let counts = Counts { parked, ..Counts::default() };
            let backlog = Backlog { counts, for_limits, for_breakers, ..Backlog::default() };
            assert_eq!(backlog.parked_by_cause().map(|(_, count)| count), expected);
        }
    }
}
