//! Rate and concurrency limits. All keys of a limit are in a Cluster slot of their own.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::{Invocation, Rest, Values, micros, typed_calls};
use crate::UnixMs;

typed_calls! {
    /// Asks a limit for calls.
    Acquire = "limit/acquire" + ["clock", "out_of_memory", "bucket", "limit", "limit_state", "definition", "budget", "grant"] -> Acquired {
        keys: limit_key, slots, waiting;
        args: source: &'a str, definition: &'a str, lead_us: u64, window_us: u64, slot_lease_ms: u64, idle_ttl_ms: u64,
            stated_at_ms: UnixMs;
        rest requests: &'a [AcquireRequest<'a>] = [cost, token, has_priority, delay_us, returned_at, max_wait_us];
    }

    /// Asks a limit for calls that wait for it.
    DrainLimit = "limit/drain_limit" + ["clock", "out_of_memory", "bucket", "limit", "limit_state", "definition", "budget", "grant"] -> DrainReply {
        keys: limit_key, slots, waiting;
        args: group: &'a str, worker: &'a str, lead_ms: u64, is_full: bool, emptied: &'a str, lead_us: u64, window_us: u64,
            slot_lease_ms: u64, idle_ttl_ms: u64;
        rest calls: &'a [WaitingCall<'a>] = [cost, token, dies_when_spent];
    }

    /// Tells a limit that calls wait for it in a queue. Returns until when, in us from now, a worker drains them.
    AnnounceWaiting = "limit/announce_waiting" + ["clock", "limit"] -> u64 {
        keys: limit_key, waiting;
        args: queue: &'a str, group: &'a str, ttl_ms: u64;
    }

    /// Corrects a limit by what was learned after it admitted a call.
    Adjust = "limit/adjust" + ["clock", "out_of_memory", "bucket", "limit", "definition"] -> Adjusted {
        keys: limit_key;
        args: close_us: u64, closed_by: &'a str, charge: f64, cost: f64, remaining: Option<f64>, granted_at: f64,
            said_by: &'a str;
    }

    /// Releases the slots of calls that have ended. Returns how many of them held one, and whether calls wait for the limit.
    ReleaseSlots = "limit/release_slots" + [] -> (u64, bool) {
        keys: limit_key, slots, waiting;
        args: ;
        rest tokens: &'a [&'a str] = [];
    }

    /// Renews the slots of calls in flight. Returns how many of them hold one.
    ExtendSlots = "limit/extend_slots" + ["clock", "out_of_memory", "limit"] -> u64 {
        keys: limit_key, slots;
        args: slot_lease_ms: u64;
        rest tokens: &'a [&'a str] = [];
    }

    /// Defines a limit by hand or by configuration, or removes the definition by hand. `false`: there was none to remove.
    DefineLimit = "limit/define_limit" + ["clock", "bucket", "limit", "limit_state", "definition"] -> bool {
        keys: limit_key;
        args: source: &'a str, definition: &'a str, stated_at_ms: UnixMs, idle_ttl_ms: u64;
    }

    /// Fills the bucket of a limit and opens it. `false`: there is no such limit.
    ResetLimit = "limit/reset_limit" + ["clock", "limit"] -> bool {
        keys: limit_key;
        args: ;
    }

    /// Reads the status of a limit.
    InspectLimit = "limit/inspect_limit" + ["clock", "bucket", "limit", "definition"] -> InspectLimitReply {
        keys: limit_key, slots, waiting;
        args: ;
    }
}

/// How long a call is willing to wait for a limit. By default, as long as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitBound {
    /// For whatever reason.
    pub max_wait: Option<Duration>,
    /// Whether it waits until enough is refilled, if the limit is spent.
    pub dies_when_spent: bool,
}

/// One call that [`Acquire`] requests.
#[derive(Debug, Clone, Copy)]
pub struct AcquireRequest<'a> {
    /// The tokens it takes.
    pub cost: f64,
    /// Names its concurrency slot.
    pub token: &'a str,
    /// Whether it goes before those that wait.
    pub has_priority: bool,
    /// How soon it can use a grant, in us.
    pub delay_us: u64,
    /// The moment of a grant that it gives back.
    pub returned_at: Option<f64>,
    /// How long it is willing to wait.
    pub wait_bound: WaitBound,
}

impl Rest for AcquireRequest<'_> {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.cost);
        call.arg(&self.token);
        call.arg(&self.has_priority);
        call.arg(&self.delay_us);
        call.arg(&self.returned_at);
        // `spent`: not at all, if it is the rate that makes it wait.
        let WaitBound { max_wait, dies_when_spent } = self.wait_bound;
        match (max_wait, dies_when_spent) {
            (None, false) => call.arg(&""),
            (None, true) => call.arg(&"spent"),
            (Some(max_wait), false) => call.arg(&micros(max_wait)),
            (Some(max_wait), true) => call.arg(&format!("{} spent", micros(max_wait))),
        }
    }
}

/// A parked call for which [`DrainLimit`] asks.
#[derive(Debug, Clone, Copy)]
pub struct WaitingCall<'a> {
    /// The tokens it takes.
    pub cost: f64,
    /// Names its concurrency slot: the token of the delivery to come.
    pub token: &'a str,
    /// Whether it does not wait for a bucket that does not have enough.
    pub dies_when_spent: bool,
}

impl Rest for WaitingCall<'_> {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.cost);
        call.arg(&self.token);
        call.arg(&self.dies_when_spent);
    }
}

/// What became of an adjustment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjusted {
    /// It is in force.
    Done,
    /// The charge was out of all proportion to what the call was expected to take: only a part of it is in force.
    Capped,
    /// The limit no longer exists.
    Gone,
    /// An operator defines the limit, and did not name it for the upstream whose response it was: nothing was changed.
    Refused,
}

impl FromRedisValue for Adjusted {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        Ok(match u64::from_redis_value(reply)? {
            0 => Self::Gone,
            1 => Self::Done,
            2 => Self::Capped,
            _ => Self::Refused,
        })
    }
}

/// What a limit answered to some requests.
#[derive(Debug, Default)]
pub struct Acquired {
    /// This limit's time in us.
    pub now: f64,
    /// A grant for each request, in order.
    pub grants: Vec<Grant>,
}

impl FromRedisValue for Acquired {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        Ok(Self { now: values.next()?, grants: values.rest()? })
    }
}

/// A limit's answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// Make the call at this moment.
    Granted {
        /// By this limit's clock in us; 0: at once, because the limit has no rate.
        at: f64,
        /// Whether it occupies a concurrency slot, to be released.
        holds_slot: bool,
    },
    /// Wait in the queue. If the rate is why, the call could go after this time.
    Waiting(Duration),
    /// The cost exceeds the burst, which is this much, and so can never be granted.
    OverBurst(f64),
    /// The limit is not defined anywhere.
    Undefined,
    /// It would have to wait this long, which is longer than it is willing to. Nothing was taken.
    OverBudget(Duration),
}

impl FromRedisValue for Grant {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        Ok(match values.next::<String>()?.as_str() {
            "granted" => Self::Granted { at: values.next()?, holds_slot: values.next()? },
            "waiting" => Self::Waiting(Duration::from_micros(values.next()?)),
            "over_burst" => Self::OverBurst(values.next()?),
            "undefined" => Self::Undefined,
            "over_budget" => Self::OverBudget(Duration::from_micros(values.next()?)),
            _ => return Err("not a grant".into()),
        })
    }
}

/// Whether a worker drains the wait lists of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainRole {
    /// Another one does.
    Bystander,
    /// It leads.
    Leader,
    /// The leader has no free slot, and this one may help.
    Helper,
}

impl FromRedisValue for DrainRole {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        Ok(match u64::from_redis_value(reply)? {
            0 => Self::Bystander,
            1 => Self::Leader,
            _ => Self::Helper,
        })
    }
}

/// What a limit answered to a worker that drains its wait lists.
#[derive(Debug)]
pub struct DrainReply {
    /// This limit's time in us.
    pub now: f64,
    /// Whether this worker drains.
    pub role: DrainRole,
    /// How much longer the leader's lease lasts.
    pub lease: Duration,
    /// When the first call that was not granted may go, from now, if the rate is why.
    pub next_in: Duration,
    /// How much is refilled in a second; none for a limit without a rate.
    pub per_second: Option<f64>,
    /// The queues in which calls wait, each with when it last announced one.
    pub queues: Vec<(String, String)>,
    /// The grants of the first calls: those that need not wait.
    pub grants: Vec<Grant>,
}

impl FromRedisValue for DrainReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let (now, role) = (values.next()?, values.next()?);
        let (lease, next_in) = (Duration::from_micros(values.next()?), Duration::from_micros(values.next()?));
        let per_second = Some(values.next()?).filter(|rate| *rate > 0.0);
        let count: usize = values.next()?;
        let mut queues = Vec::new();
        for _ in 0..count {
            queues.push((values.next()?, values.next()?));
        }
        Ok(Self { now, role, lease, next_in, per_second, queues, grants: values.rest()? })
    }
}

/// The status of a limit as [`InspectLimit`] reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InspectLimitReply {
    /// Who defines it: `set`, `config`, `inline`, or nothing. Then nothing else is known.
    pub source: String,
    /// The definition in force.
    pub definition: String,
    /// The definition by hand, or nothing.
    pub set: String,
    /// The definition of the configuration, or nothing.
    pub config: String,
    /// The definition of tasks, or nothing.
    pub inline: String,
    /// For how much longer the configuration counts if no worker states it again.
    pub config_ends_in_us: u64,
    /// The tokens left; none without a rate.
    pub tokens_left: Option<f64>,
    /// For how much longer it is closed.
    pub closed_us: u64,
    /// Since when, if it is.
    pub closed_since: UnixMs,
    /// Why, if it is.
    pub closed_by: String,
    /// How many calls are in flight.
    pub in_flight: u64,
    /// The queues in which calls wait.
    pub queues: Vec<String>,
}

impl FromRedisValue for InspectLimitReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let source: String = values.next()?;
        if source.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self {
            source,
            definition: values.next()?,
            set: values.next()?,
            config: values.next()?,
            inline: values.next()?,
            config_ends_in_us: values.next()?,
            tokens_left: values.next::<String>()?.parse().ok(),
            closed_us: values.next()?,
            closed_since: UnixMs(values.next()?),
            closed_by: values.next()?,
            in_flight: values.next()?,
            queues: values.next()?,
        })
    }
}
