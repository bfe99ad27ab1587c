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
    /// How many are parked for a limit, for an upstream to come back, and for a call to it to end.
    for_limits: u64,
    for_breakers: u64,
    for_calls: u64,
}

impl Backlog {
    /// Adds that of another part of the queue.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(other.counts);
        self.admissible += other.admissible;
        self.for_limits += other.for_limits;
        self.for_breakers += other.for_breakers;
        self.for_calls += other.for_calls;
    }

    /// The parked tasks by what they wait for. Those in none of the wait lists that were asked for wait for another task's answer.
    pub fn parked_by_cause(&self) -> [(WaitReason, u64); 4] {
        let mut left = self.counts.parked;
        let mut part = |tasks: u64| {
            let part = tasks.min(left);
            left -= part;
            part
        };
        let (limits, breakers, calls) = (part(self.for_limits), part(self.for_breakers), part(self.for_calls));
        [
            (WaitReason::Limit, limits),
            (WaitReason::Breaker, breakers),
            (WaitReason::InFlight, calls),
            (WaitReason::Memo, left),
        ]
    }
}

impl Db {
    /// The wait lists of the limits that were used last, of the upstreams whose breaker opened last, and of those that last had as many calls
    /// in flight as they may: up to `most` of each.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn recent_wait_lists(&self, most: usize) -> Result<Vec<WaitList>, Error> {
        let limits = self.recent_names(&self.keys().limits(), most).await?;
        let down = self.recent_names(&self.keys().breakers(), most).await?;
        let busy = self.recent_names(&self.keys().busy_upstreams(), most).await?;
        let lists = limits.iter().map(|name| WaitList::limit(name));
        let lists = lists.chain(down.iter().map(|name| WaitList::breaker(name)));
        Ok(lists.chain(busy.iter().map(|name| WaitList::in_flight(name))).collect())
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
        backlog.for_calls = total(WaitReason::InFlight);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_add_up_to_the_parked_tasks_whatever_the_lists_say() {
        for (parked, [for_limits, for_breakers, for_calls], expected) in [
            (6, [2, 1, 1], [2, 1, 1, 2]),
            (0, [3, 3, 3], [0, 0, 0, 0]),
            (4, [3, 9, 1], [3, 1, 0, 0]),
            (7, [0, 0, 9], [0, 0, 7, 0]),
            (7, [0, 0, 0], [0, 0, 0, 7]),
        ] {
            let counts = Counts { parked, ..Counts::default() };
            let backlog = Backlog { counts, for_limits, for_breakers, for_calls, ..Backlog::default() };
            assert_eq!(backlog.parked_by_cause().map(|(_, count)| count), expected);
        }
    }
}
