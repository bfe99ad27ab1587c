//! Circuit breakers with their retry budgets. Each breaker is one key, in a Cluster slot of its own.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::task::Selection;
use super::{Invocation, Rest, Values, typed_calls};
use crate::UnixMs;

typed_calls! {
    /// Reports to a breaker what became of calls, and asks it whether to make more.
    Consult = "breaker/consult" + ["clock", "out_of_memory", "breaker"] -> BreakerReply {
        keys: breaker_key;
        args: min_calls: u32, failure_ratio: f64, probe_interval_ms: u64, retry_ratio: f64, retries_per_s: f64, epoch: u64,
            good: u64, bad: u64, trailing: u64, any_good: bool;
        rest requests: &'a [BreakerRequest] = [];
    }
}

/// Who asks a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerRequest {
    /// A task's first call.
    First,
    /// A retry.
    Retry,
    /// A retry that was given its time before.
    ReservedRetry,
    /// A queue's wait list with this many tasks.
    WaitList(usize),
}

impl Rest for BreakerRequest {
    fn push_args(&self, call: &mut Invocation) {
        match self {
            Self::First => call.arg(&"first"),
            Self::Retry => call.arg(&"retry"),
            Self::ReservedRetry => call.arg(&"reserved_retry"),
            Self::WaitList(waiting) => call.arg(&format!("wait_list {waiting}")),
        }
    }
}

/// A breaker's answer to a report and some requests.
#[derive(Debug)]
pub struct BreakerReply {
    /// The state of the breaker.
    pub status: BreakerStatus,
    /// A decision for each request, in order.
    pub decisions: Vec<Decision>,
}

impl FromRedisValue for BreakerReply {
    fn from_redis_value(reply: Value) -> Result<Self, ParsingError> {
        let mut values = Values::of(reply)?;
        let (epoch, state, since) = (values.next()?, values.next::<String>()?, values.next()?);
        let state = BreakerState::parse(&state).ok_or("not a state of a breaker")?;
        let mut decisions = Vec::new();
        while !values.is_empty() {
            let (admit, retry_in_ms) = (values.next()?, values.next()?);
            decisions.push(Decision { admit, retry_in: Duration::from_millis(retry_in_ms), is_probe: values.next()? });
        }
        Ok(Self { status: BreakerStatus { epoch, state, since }, decisions })
    }
}

/// A breaker's answer to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// How many calls are admitted; for a wait list, which of its tasks may ask for themselves.
    pub admit: Selection,
    /// When to ask again.
    pub retry_in: Duration,
    /// The call tests whether the upstream is back: its failure should cost the task no attempt.
    pub is_probe: bool,
}

/// The status of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStatus {
    /// How often it has opened.
    pub epoch: u64,
    /// Its state.
    pub state: BreakerState,
    /// Since when it has not been closed.
    pub since: UnixMs,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerState {
    /// All first calls are admitted, and retries within the budget.
    #[default]
    Closed,
    /// One probe is admitted at a time.
    Open,
    /// More and more calls are admitted.
    HalfOpen,
}

impl BreakerState {
    /// Its name in Redis, in metrics and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Closed, Self::Open, Self::HalfOpen].into_iter().find(|state| state.as_str() == text)
    }
}
