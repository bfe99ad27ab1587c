//! What the gate decides about a task.

use std::time::Duration;

use http::HeaderMap;
use redial_core::memo::{KeptAnswer, MemoKey, MemoPurpose};
use redial_core::{Reason, UnixMs};

use crate::breaker::client::BreakerPermit;
use crate::http::credentials::tokens::AccessToken;
use crate::limit::applied::AppliedLimit;
use crate::limit::client::ConcurrencySlot;
use crate::queue::redis_retry::NotStored;

/// The gate's decision. A refused task keeps the memos that it leads: they have to be settled, or kept while it waits.
#[derive(Debug)]
pub enum Verdict {
    /// Make the call.
    Pass(Admission),
    /// Do not make it, at least not now.
    Refuse(Refusal, Vec<MemoKey>),
}

/// What the gate grants to a call. Dropping it gives everything back, except for the leads.
#[derive(Debug, Default)]
pub struct Admission {
    /// The memos that the task leads, to be settled with its result.
    pub leads: Vec<MemoKey>,
    /// The permission of its upstream's breaker.
    pub permit: Option<BreakerPermit>,
    /// The limits that admitted the call.
    pub limits: Vec<AppliedLimit>,
    /// Its concurrency slots.
    pub slots: Vec<ConcurrencySlot>,
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
    /// The upstream is down: wait until it is up, for this long at least.
    UpstreamDown(Duration),
    /// Never: the task is dead.
    Reject(Reason, String),
    /// The lease was lost: another worker has the task.
    LeaseLost,
}
