//! What the gate decides about a task.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use redial_core::memo::{KeptAnswer, MemoKey, MemoPurpose};
use redial_core::{Reason, UnixMs};

use crate::breaker::client::BreakerPermit;
use crate::http::credentials::tokens::AccessToken;
use crate::in_flight::calls::{CallInFlight, UpstreamCalls};
use crate::limit::applied::AppliedLimit;
use crate::limit::grant::HeldGrant;
use crate::queue::redis_retry::NotStored;

/// The gate's decision. A refused task keeps the memos that it leads: they have to be settled, or kept while it waits.
#[derive(Debug)]
pub enum Verdict {
    /// Make the call.
    Pass(Admission),
    /// Do not make it, at least not now.
    Refuse(Refusal, Vec<MemoKey>),
}

/// What a task brings along from a wait list, as it was its turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// The grant of the limit that it waited for. Boxed, as most tasks have not waited.
    pub grant: Option<Box<HeldGrant>>,
    /// Its call among those in flight to the upstream that it waited for.
    pub call: Option<CallInFlight>,
}

/// What the gate grants to a call. Dropping it gives everything back, except for the leads.
#[derive(Debug, Default)]
pub struct Admission {
    /// The memos that the task leads, to be settled with its result.
    pub leads: Vec<MemoKey>,
    /// The call among those in flight to its upstream.
    pub call: Option<CallInFlight>,
    /// The permission of its upstream's breaker.
    pub permit: Option<BreakerPermit>,
    /// The limits that apply to the call, with their grants.
    pub limits: Vec<AppliedLimit>,
    /// The access token that the call needs, if so.
    pub token: Option<Box<AccessToken>>,
    /// What to send, if the call is a callback. Boxed, as it is large and rare.
    pub callback: Option<Box<Callback>>,
}

/// The request of a callback: a result and its signature.
#[derive(Debug)]
pub struct Callback {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Refusal {
    /// Why a call is not made if something that it needs could not be asked. `what` is said of it.
    pub fn without(what: &str, why: NotStored) -> Self {
        match why {
            NotStored::Aborted => Self::LeaseLost,
            NotStored::Refused(error) => {
                let error = format!("no call was made, because Redis refuses {what}: {error}");
                Self::Reject(Reason::InvalidTask, error)
            }
        }
    }
}

/// What a call that waits for a limit waits for, and in which order.
#[derive(Debug)]
pub struct LimitWait {
    /// The limit's name.
    pub limit: String,
    /// How much it takes.
    pub cost: f64,
    /// On whose behalf: keys get equal shares.
    pub fairness_key: String,
    /// The place that it had in the wait list before, and has again.
    pub position: Option<String>,
    /// Whether it does not wait for a bucket that does not have enough.
    pub dies_when_spent: bool,
}

/// Why a call is not made. None of these is an error.
#[derive(Debug)]
pub enum Refusal {
    /// Later: after `wait`, and not before a time. Uses no attempt and holds no slot.
    Defer {
        /// From now.
        wait: Duration,
        /// By Redis's clock.
        not_before: UnixMs,
    },
    /// A memo for this purpose has the answer.
    Answered(Box<KeptAnswer>, MemoPurpose),
    /// Another task makes the call: wait for its answer without a slot.
    Follow(MemoKey),
    /// A limit lets it wait for its turn.
    AwaitLimit(Box<LimitWait>),
    /// The upstream has as many calls in flight as it may: wait until there are fewer.
    UpstreamBusy(Arc<UpstreamCalls>),
    /// The upstream is down: wait until it is up, for this long at least.
    UpstreamDown(Duration),
    /// Never: the task is dead.
    Reject(Reason, String),
    /// The lease was lost: another worker has the task.
    LeaseLost,
}
