//! Tasks that wait for a limit: parked in an order that is fair between keys, and taken from there in turn.

use std::time::Duration;

use super::{Consumer, MAX_BATCH, MAX_BATCH_BYTES, WaitList};
use crate::protocol::id::Token;
use crate::queue::entry::Entry;
use crate::script::millis;
use crate::script::task::{ParkInTurn, ReleaseInTurn};
use crate::script::turn::{NextInTurn, ReleasedInTurn, TakenInTurn, TurnTask};
use crate::{Error, UnixMs, WorkerId};

/// A task to park until it is its turn.
#[derive(Debug, Clone)]
pub struct TurnRequest {
    /// The fence of its delivery.
    pub token: Token,
    /// Its name inside Redial.
    pub serial: String,
    /// The entry's new header.
    pub header: String,
    /// When it expires.
    pub deadline: Option<UnixMs>,
    /// How much of its key's share it takes.
    pub cost: f64,
    /// On whose behalf: keys get equal shares.
    pub fairness_key: String,
    /// The place that it had before, and has again.
    pub position: Option<String>,
    /// Whether it does not wait for a bucket that does not have enough.
    pub dies_when_spent: bool,
}

/// Names one request for tasks of a wait list, and so their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainId(u64);

/// What was taken from a wait list, and what is next.
#[derive(Debug)]
pub struct ReleasedTasks {
    /// How many tasks are left; `None` if the queue is paused.
    pub left: Option<usize>,
    /// The tasks that were taken, now this worker's.
    pub entries: Vec<Entry>,
    /// Tokens of entries that this version cannot read.
    pub unreadable: Vec<(Token, Error)>,
    /// The first tasks that are left.
    pub next: Vec<NextInTurn>,
}

impl DrainId {
    /// The `n`th request of a worker to any wait list.
    pub fn new(n: u64) -> Self {
        Self(n)
    }

    /// The token of the `i`th task of the request of `worker`.
    pub fn token(self, worker: &WorkerId, i: usize) -> Token {
        Token(format!("{worker}:d{}:{i}", self.0))
    }
}

impl Consumer {
    /// Parks tasks in `list`, at most [`MAX_BATCH`]; the list is checked after `look_in`, and each task at its deadline. For each: whether
    /// its lease was held.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn park_in_turn(
        &self,
        list: &WaitList,
        look_in: Duration,
        requests: &[TurnRequest],
    ) -> Result<Vec<bool>, Error> {
        let keys = &self.queue.keys;
        let tasks: Vec<TurnTask<'_>> = requests
            .iter()
            .map(|request| TurnTask {
                token: request.token.as_str(),
                serial: &request.serial,
                header: &request.header,
                deadline: request.deadline,
                cost: request.cost,
                fairness_key: &request.fairness_key,
                position: request.position.as_deref(),
                dies_when_spent: request.dies_when_spent,
            })
            .collect();
        let call = ParkInTurn {
            active: &self.active,
            stored: &keys.stored,
            wait_list: &keys.wait_list(list),
            turns: &keys.turns(list),
            costs: &keys.costs(list),
            watch: &keys.watch,
            stats: &keys.stats,
            list_name: &list.to_words(),
            check_in_ms: millis(look_in),
            tasks: &tasks,
        };
        self.queue.db.call(&call).await
    }

    /// Takes tasks from `list`, at most [`MAX_BATCH`], as far as they still wait there, and reads the first `most_next` of those that are
    /// left (at most [`MAX_BATCH`]).
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. It may have been carried out: send it again with the same tokens.
    pub async fn release_in_turn(
        &self,
        list: &WaitList,
        tasks: &[TakenInTurn],
        most_next: usize,
    ) -> Result<ReleasedTasks, Error> {
        let keys = &self.queue.keys;
        let call = ReleaseInTurn {
            wait_list: &keys.wait_list(list),
            turns: &keys.turns(list),
            costs: &keys.costs(list),
            stored: &keys.stored,
            watch: &keys.watch,
            active: &self.active,
            workers: &keys.workers,
            paused: &keys.paused,
            stats: &keys.stats,
            list_name: &list.to_words(),
            worker: self.worker.as_str(),
            lease_ms: millis(self.lease),
            max_bytes: MAX_BATCH_BYTES,
            max_next: most_next.min(MAX_BATCH),
            tasks,
        };
        let ReleasedInTurn { left, taken, next } = self.queue.db.call(&call).await?;
        let (entries, unreadable) = Entry::parse_all(taken);
        Ok(ReleasedTasks { left, entries, unreadable, next })
    }
}
