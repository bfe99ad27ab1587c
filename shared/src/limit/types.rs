//! What callers ask of a limit, what it answers, and what they tell it afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::id::Token;
use crate::protocol::task::Limit;

/// Who says what a limit is, the first before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DefinedBy {
    /// By hand: `redial limits set`.
    Set,
    /// The configuration of the workers.
    Config,
    /// A task.
    Inline,
    /// No one here: only its name is given.
    Name,
}

impl DefinedBy {
    /// As it stands in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Config => "config",
            Self::Inline => "inline",
            Self::Name => "name",
        }
    }
}

/// One call that requests a limit.
#[derive(Debug, Clone)]
pub struct LimitRequest {
    /// On whose behalf: flows that want more than there is get equal shares.
    pub fairness_key: String,
    /// How much it takes.
    pub cost: f64,
    /// What it was given before.
    pub reservation: Option<Reservation>,
    /// What names its place in flight.
    pub token: Token,
}

/// When a call may ask again, by the limit's own clock in us. It is a turn to keep, not yet permission to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum Reservation {
    /// A time of its own among those that its fairness key has reserved.
    Slot(i64),
    /// A turn in the queue of those that came on time and found the rate used; they go before all that come after.
    Queued(i64),
}

/// One number, as scripts and task headers keep it: a turn in the queue is less than 0.
impl From<i64> for Reservation {
    fn from(number: i64) -> Self {
        if number < 0 { Self::Queued(-number) } else { Self::Slot(number) }
    }
}

impl From<Reservation> for i64 {
    fn from(reservation: Reservation) -> Self {
        match reservation {
            Reservation::Slot(at) => at,
            Reservation::Queued(at) => -at,
        }
    }
}

/// What a limit says to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// Make the call after a wait of at most 10 ms.
    Admitted {
        /// From now.
        wait: Duration,
        /// Whether it occupies a concurrency slot, to be released.
        holds_slot: bool,
        /// When, by this limit's clock in us.
        admitted_at: f64,
    },
    /// Ask again after a wait, with this reservation.
    Reserved(Duration, Reservation),
    /// The cost exceeds the burst, this much, and so could never be admitted.
    OverBurst(f64),
    /// The limit is not defined anywhere.
    Undefined,
}

/// How a limit stands.
#[derive(Debug, Clone)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// Who defines it; `None` when no one does any more.
    pub source: Option<DefinedBy>,
    /// What it is.
    pub limit: Limit,
    /// What may go at once; less than nothing when there is a debt. `None` without a rate.
    pub left: Option<f64>,
    /// For how long nothing goes, as the upstream said.
    pub closed: Duration,
    /// How many flows wait.
    pub flows: u64,
    /// How many calls are in flight, where they are counted.
    pub in_flight: u64,
    /// When the last that waits may go.
    pub clears_in: Duration,
}

/// What was learned of a limit after it admitted a call. The default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Adjustment<'a> {
    /// Admit nothing for this long from now, as the upstream asked.
    pub close_for: Duration,
    /// How much to take in addition to what was taken; a negative number gives that much back.
    pub charge: f64,
    /// The fairness key that pays a charge.
    pub fairness_key: &'a str,
    /// What the upstream says is left: admit no more than this at once from now on.
    pub remaining: Option<f64>,
    /// When the limit admitted the call, by its own clock in us.
    pub admitted_at: f64,
}

impl<'a> Adjustment<'a> {
    /// Takes `cost` in addition to what the call took.
    pub fn charge(fairness_key: &'a str, cost: f64, admitted_at: f64) -> Self {
        Self { charge: cost, fairness_key, admitted_at, ..Self::default() }
    }

    /// Gives back the `cost` of a call that did not go.
    pub fn refund(cost: f64, admitted_at: f64) -> Self {
        Self { charge: -cost, admitted_at, ..Self::default() }
    }
}

/// What a limit answered to some requests.
#[derive(Debug, Default)]
pub struct Acquired {
    /// The limit is defined otherwise than before: see [`Limits::wake_waiters`].
    pub definition_changed: bool,
    /// A grant for each request, in order.
    pub grants: Vec<Grant>,
}
