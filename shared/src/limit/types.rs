//! What callers ask of a limit, and what they report to it afterwards.

use std::time::Duration;

use crate::UnixMs;
use crate::protocol::id::Token;
use crate::protocol::task::Limit;
use crate::script::limit::{Reservation, WaitBound};

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

/// Who says what an [`Adjustment`] says, and so which limits it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaidBy {
    /// The fleet itself, about a call that it made late or not at all: any limit.
    #[default]
    Fleet,
    /// The response of an upstream that the configuration names the limit for: that limit.
    Upstream,
    /// The response to any other call: only a limit that tasks define.
    Task,
}

impl SaidBy {
    /// Its name in scripts.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Upstream => "upstream",
            Self::Task => "task",
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
    /// How long it is willing to wait.
    pub wait_bound: WaitBound,
}

/// The status of a limit.
#[derive(Debug, Clone)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// Who defines it; `None` if no one does any longer.
    pub source: Option<DefinedBy>,
    /// Its definition in force.
    pub limit: Limit,
    /// Its definition by hand.
    pub set: Option<Limit>,
    /// The definition that workers configure, or configured last.
    pub config: Option<Limit>,
    /// For how much longer that counts unless a worker states it again; zero if no running worker does.
    pub config_ends_in: Duration,
    /// The definition of the newest task that has one.
    pub inline: Option<Limit>,
    /// The tokens left; negative while there is a debt. `None` without a rate.
    pub left: Option<f64>,
    /// Nothing is admitted, because an upstream asked for that.
    pub closed: Option<LimitClosure>,
    /// How many fairness keys wait.
    pub flows: u64,
    /// How many calls are in flight, if the limit counts them.
    pub in_flight: u64,
    /// How long until the last call that waits may go.
    pub clears_in: Duration,
    /// Fairness keys that wait, each with how long until its last call may go: as many as are worth naming.
    pub waiting: Vec<(String, Duration)>,
}

/// A limit that an upstream has closed.
#[derive(Debug, Clone)]
pub struct LimitClosure {
    /// From now.
    pub ends_in: Duration,
    /// When it was closed.
    pub since: UnixMs,
    /// What closed it, for people.
    pub by: String,
}

/// What was learned about a limit after it admitted a call. The default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Adjustment<'a> {
    /// Admit nothing for this long from now, as the upstream asked.
    pub close_for: Duration,
    /// Why, for people.
    pub closed_by: &'a str,
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
    /// Who says all this.
    pub said_by: SaidBy,
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
