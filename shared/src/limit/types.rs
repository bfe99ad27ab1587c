//! What callers ask of a limit, and what they report to it afterwards.

use std::time::Duration;

use crate::protocol::id::Token;
use crate::protocol::task::Limit;
use crate::script::limit::WaitBound;
use crate::{QueueName, UnixMs};

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

/// One call that asks a limit.
#[derive(Debug, Clone)]
pub struct LimitRequest {
    /// How many tokens it takes.
    pub cost: f64,
    /// Names its concurrency slot.
    pub token: Token,
    /// Whether it goes before those that wait: it has waited already.
    pub has_priority: bool,
    /// The earliest time at which it can use a grant, from now.
    pub delay: Duration,
    /// The moment of a grant that it gives back for a later one.
    pub returned_at: Option<f64>,
    /// How long it is willing to wait.
    pub wait_bound: WaitBound,
}

/// How far ahead of their moments a limit grants calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantWindow {
    /// How soon a grant can be used: it has a way to go.
    pub lead: Duration,
    /// How far beyond that its moment may lie.
    pub length: Duration,
}

/// A worker's request on behalf of the calls that wait for a limit.
#[derive(Debug)]
pub struct DrainRequest<'a> {
    /// Names the set of queues that it serves: of those that serve the same ones, one leads.
    pub group: &'a str,
    /// The worker.
    pub worker: &'a str,
    /// For how long it leads; zero to resign.
    pub lease: Duration,
    /// Whether it has no free slot for what waits.
    pub is_full: bool,
    /// Queues whose wait list was found empty, each with the announcement that was known before.
    pub emptied: &'a [(String, String)],
    /// How far ahead it can use grants.
    pub window: GrantWindow,
    /// How long a concurrency slot lasts unless it is extended.
    pub slot_lease: Duration,
    /// The first calls that wait.
    pub calls: &'a [CallInTurn],
}

/// A call that waits for a limit, as it is asked for.
#[derive(Debug, Clone)]
pub struct CallInTurn {
    /// How much it takes.
    pub cost: f64,
    /// Names its concurrency slot.
    pub token: Token,
    /// Whether it does not wait for a bucket that does not have enough.
    pub dies_when_spent: bool,
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
    /// Nothing is granted, because an upstream asked for that.
    pub closed: Option<LimitClosure>,
    /// How many calls wait, in each queue in which any do.
    pub waiting: Vec<(QueueName, usize)>,
    /// How many calls are in flight, if the limit counts them.
    pub in_flight: u64,
}

impl LimitStatus {
    /// How many calls wait in all.
    pub fn calls_waiting(&self) -> usize {
        self.waiting.iter().map(|(_, calls)| calls).sum()
    }
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
    /// What the upstream says is left: admit no more than this at once from now on.
    pub remaining: Option<f64>,
    /// The moment for which the limit granted the call, by its own clock in us.
    pub granted_at: f64,
    /// Who says all this.
    pub said_by: SaidBy,
}

impl Adjustment<'_> {
    /// Gives back the `cost` of a call that was not made.
    pub fn refund(cost: f64, granted_at: f64) -> Self {
        Self { charge: -cost, granted_at, ..Self::default() }
    }
}
