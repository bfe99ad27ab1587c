//! What callers ask of a limit, and what they report to it afterwards.

use std::time::Duration;

use crate::protocol::id::Token;
use crate::protocol::task::Limit;
use crate::script::limit::Reservation;

/// Who defines a limit. Earlier variants take precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DefinedBy {
    /// By hand: `redial limits set`.
    Set,
    /// The configuration of the workers.
    Config,
    /// A task.
    Inline,
    /// Only its name is known here.
    Name,
}

impl DefinedBy {
    /// Its name in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Config => "config",
            Self::Inline => "inline",
            Self::Name => "name",
        }
    }
}

/// One call that asks a limit for admission.
#[derive(Debug, Clone)]
pub struct LimitRequest {
    /// On whose behalf: keys that want more than there is get equal shares.
    pub fairness_key: String,
    /// How many tokens it takes.
    pub cost: f64,
    /// The reservation it got before.
    pub reservation: Option<Reservation>,
    /// Names its concurrency slot.
    pub token: Token,
}

/// The status of a limit.
#[derive(Debug, Clone)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// Who defines it; `None` if no one does any longer.
    pub source: Option<DefinedBy>,
    /// Its definition.
    pub limit: Limit,
    /// The tokens left; negative while there is a debt. `None` without a rate.
    pub left: Option<f64>,
    /// For how much longer nothing is admitted, because the upstream asked for that.
    pub closed: Duration,
    /// How many fairness keys wait.
    pub flows: u64,
    /// How many calls are in flight, if the limit counts them.
    pub in_flight: u64,
    /// How long until the last call that waits may go.
    pub clears_in: Duration,
}

/// What was learned about a limit after it admitted a call. The default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Adjustment<'a> {
    /// Admit nothing for this long from now, as the upstream asked.
    pub close_for: Duration,
    /// How much to take in addition to what was taken; a negative number gives that much back.
    pub charge: f64,
    /// What the call took. A charge out of all proportion to it is capped.
    pub cost: f64,
    /// The fairness key that pays a charge.
    pub fairness_key: &'a str,
    /// What the upstream says is left: admit no more than this at once from now on.
    pub remaining: Option<f64>,
    /// When the limit admitted the call, by its own clock in us.
    pub admitted_at: f64,
}

impl<'a> Adjustment<'a> {
    /// Takes `charge` in addition to the `cost` that the call took.
    pub fn charge(fairness_key: &'a str, charge: f64, cost: f64, admitted_at: f64) -> Self {
        Self { charge, cost, fairness_key, admitted_at, ..Self::default() }
    }

    /// Gives back the `cost` of a call that was not made.
    pub fn refund(cost: f64, admitted_at: f64) -> Self {
        Self { charge: -cost, admitted_at, ..Self::default() }
    }
}
