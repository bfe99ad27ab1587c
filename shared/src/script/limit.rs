//! Rate and concurrency limits. All keys of a limit are in a Cluster slot of their own.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};
use serde::{Deserialize, Serialize};

use super::{Invocation, Rest, Values, micros, typed_calls};
use crate::UnixMs;

typed_calls! {
    /// Requests calls from a limit.
    Acquire = "limit/acquire" + ["clock", "types", "out_of_memory", "bucket", "limit", "definition", "budget", "booking"] -> Acquired {
        keys: limit_key, reserved, slots, queued;
        args: source: &'a str, definition: &'a str, hold_us: u64, slot_lease_ms: u64, idle_ttl_ms: u64, stated_at_ms: UnixMs;
        rest requests: &'a [AcquireRequest<'a>] = [fairness_key, cost, reservation, token, max_wait_us];
    }

    /// Corrects a limit by what was learned after it admitted a call.
    Adjust = "limit/adjust" + ["clock", "types", "out_of_memory", "bucket", "limit", "definition"] -> Adjusted {
        keys: limit_key, reserved;
        args: close_us: u64, closed_by: &'a str, charge: f64, cost: f64, fairness_key: &'a str, remaining: Option<f64>,
            admitted_at: f64, said_by: &'a str;
    }

    /// Releases the slots of calls that have ended. Returns how many of them held one.
    ReleaseSlots = "limit/release_slots" + ["limit"] -> u64 {
        keys: limit_key, slots;
        args: ;
        rest calls: &'a [EndedCall<'a>] = [token, call_us];
    }

    /// Renews the slots of calls in flight. Returns how many of them hold one.
    ExtendSlots = "limit/extend_slots" + ["clock", "out_of_memory", "limit"] -> u64 {
        keys: limit_key, slots;
        args: slot_lease_ms: u64;
        rest tokens: &'a [&'a str] = [];
    }

    /// Defines a limit by hand or by configuration, or removes the definition by hand.
    DefineLimit = "limit/define_limit" + ["clock", "types", "bucket", "limit", "definition"] -> Defined {
        keys: limit_key, reserved, queued;
        args: source: &'a str, definition: &'a str, stated_at_ms: UnixMs, idle_ttl_ms: u64;
    }

    /// Fills the bucket of a limit and opens it. `false`: there is no such limit.
    ResetLimit = "limit/reset_limit" + ["clock", "types", "bucket", "limit"] -> bool {
        keys: limit_key, reserved, queued;
        args: ;
    }

    /// Makes those of some scheduled tasks due that wait for a limit. Returns how many it looked at.
    WakeWaiters = "limit/wake_waiters" + ["clock", "entry"] -> usize {
        keys: scheduled, stored;
        args: json_name: &'a str, max_bytes: usize;
        rest serials: &'a [String] = [];
    }

    /// Reads the status of a limit.
    InspectLimit = "limit/inspect_limit" + ["clock", "bucket", "limit", "definition"] -> InspectLimitReply {
        keys: limit_key, reserved, slots, queued;
        args: max_keys: usize;
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
    /// On whose behalf.
    pub fairness_key: &'a str,
    /// The tokens it takes.
    pub cost: f64,
    /// The reservation it got before.
    pub reservation: Option<Reservation>,
    /// Names its concurrency slot.
    pub token: &'a str,
    /// How long it is willing to wait.
    pub wait_bound: WaitBound,
}

impl Rest for AcquireRequest<'_> {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.fairness_key);
        call.arg(&self.cost);
        call.arg(&self.reservation.map_or(0, i64::from));
        call.arg(&self.token);
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

/// A call whose slot [`ReleaseSlots`] releases.
#[derive(Debug, Clone, Copy)]
pub struct EndedCall<'a> {
    /// Names its concurrency slot.
    pub token: &'a str,
    /// How long it took in us; 0 does not count.
    pub call_us: u64,
}

impl Rest for EndedCall<'_> {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(&self.token);
        call.arg(&self.call_us);
    }
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

/// One number, as scripts and task headers keep it: a turn in the queue is negative.
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

/// What became of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defined {
    /// Those that wait may go on waiting.
    Unnoticed,
    /// Those that wait should ask again: see [`Limits::wake_waiters`](crate::limit::Limits::wake_waiters).
    Changed,
    /// There was no definition to remove.
    Absent,
}

impl FromRedisValue for Defined {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        Ok(match i64::from_redis_value(reply)? {
            0 => Self::Unnoticed,
            1 => Self::Changed,
            _ => Self::Absent,
        })
    }
}

/// What a limit answered to some requests.
#[derive(Debug, Default)]
pub struct Acquired {
    /// Those that wait should learn of another definition: see [`Limits::wake_waiters`](crate::limit::Limits::wake_waiters).
    pub definition_changed: bool,
    /// A grant for each request, in order.
    pub grants: Vec<Grant>,
}

impl FromRedisValue for Acquired {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        Ok(Self { definition_changed: values.next()?, grants: values.rest()? })
    }
}

/// A limit's answer to one request.
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
    /// The cost exceeds the burst, which is this much, and so can never be admitted.
    OverBurst(f64),
    /// The limit is not defined anywhere.
    Undefined,
    /// It would have to wait this long, which is longer than it is willing to. Nothing was taken or reserved.
    OverBudget(Duration),
}

impl FromRedisValue for Grant {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        Ok(match values.next::<String>()?.as_str() {
            "admitted" => Self::Admitted {
                wait: Duration::from_micros(values.next()?),
                holds_slot: values.next()?,
                admitted_at: values.next()?,
            },
            "reserved" => Self::Reserved(Duration::from_micros(values.next()?), values.next::<i64>()?.into()),
            "over_burst" => Self::OverBurst(values.next()?),
            "undefined" => Self::Undefined,
            "over_budget" => Self::OverBudget(Duration::from_micros(values.next()?)),
            _ => return Err("not a grant".into()),
        })
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
    /// How many fairness keys wait.
    pub waiting_keys: u64,
    /// How many calls are in flight.
    pub in_flight: u64,
    /// Until the last one that waits may go.
    pub clears_in_us: u64,
    /// Fairness keys that wait, each with the time in us until its last call may go; a key may be named twice.
    pub waiting: Vec<(String, u64)>,
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
            waiting_keys: values.next()?,
            in_flight: values.next()?,
            clears_in_us: values.next()?,
            waiting: values.next()?,
        })
    }
}
