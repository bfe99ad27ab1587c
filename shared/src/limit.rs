//! Limits: token buckets and concurrency slots, each shared by the whole fleet.
//!
//! A limit is in a Cluster slot of its own. It grants calls ahead of time: a grant names the moment of its call, by the limit's own clock.
//! A call that cannot go soon waits in a list of its queue, without occupying a worker, until a worker that drains the list brings it a
//! grant. The arithmetic is in `lua/lib/bucket.lua`, the decision in `lua/lib/grant.lua`.

mod definition;
mod operate;
mod types;
mod waiting;

use std::time::Duration;

use crate::db::Db;
use crate::protocol::id::Token;
use crate::protocol::task::Limit;
use crate::script::limit::{
    Acquire, AcquireRequest, Adjust, AnnounceWaiting, DrainLimit, ExtendSlots, ReleaseSlots, WaitingCall,
};
use crate::script::task::{ParkInTurn, ReleaseInTurn};
use crate::script::{TypedCall as _, micros, millis};
use crate::{Error, QueueName, UnixMs};

pub use crate::script::limit::{Acquired, Adjusted, DrainReply, DrainRole, Grant, WaitBound};
pub use crate::script::turn::{NextInTurn, TakenInTurn};
pub use definition::definition;
pub use types::{
    Adjustment, CallInTurn, DefinedBy, DrainRequest, GrantWindow, LimitClosure, LimitRequest, LimitStatus, SaidBy,
};
pub use waiting::WaitingKey;

/// How long a limit remembers a queue in which calls wait.
const WAITING_TTL: Duration = Duration::from_secs(7 * 86_400);
/// The least time that a limit which is not defined by hand is kept after its last use.
const LIMIT_IDLE_TTL: Duration = Duration::from_secs(3600);

/// The limits of a fleet.
#[derive(Debug, Clone)]
pub struct Limits {
    db: Db,
}

impl Db {
    /// The rate and concurrency limits that the fleet shares.
    pub fn limits(&self) -> Limits {
        Limits::new(self.clone())
    }
}

impl Limits {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Whether a limit is on a node of a Cluster that does not answer, as far as it is known.
    pub fn is_away(&self, name: &str) -> bool {
        self.db.is_away(|| self.db.keys().limit(name))
    }

    /// Tells Redis the scripts that a call under a limit needs, so that those who are far away do not wait for that at their first call. A
    /// Cluster learns them from its calls.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Then it learns them later.
    pub async fn prepare(&self) -> Result<(), Error> {
        if self.db.is_cluster() {
            return Ok(());
        }
        let scripts = [
            Acquire::script(),
            DrainLimit::script(),
            AnnounceWaiting::script(),
            ParkInTurn::script(),
            ReleaseInTurn::script(),
        ];
        let mut load = redis::pipe();
        for script in scripts {
            load.add_command(script.load()).ignore();
        }
        self.db.run(async |connection| load.exec_async(connection).await).await
    }

    /// Asks a limit for calls, in turn. `lease` is how long a concurrency slot lasts unless it is extended; `stated` is when the newest
    /// task that defines the limit like this was first seen, or since when this worker has been configured like this.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: what a lost reply had granted is lost as well.
    pub async fn acquire(
        &self,
        limit: &Limit,
        source: DefinedBy,
        stated: UnixMs,
        lease: Duration,
        window: GrantWindow,
        requests: &[LimitRequest],
    ) -> Result<Acquired, Error> {
        let keys = self.db.keys();
        let name = &limit.name;
        let definition = if source == DefinedBy::Name { String::new() } else { definition(limit) };
        let requests: Vec<AcquireRequest<'_>> = requests
            .iter()
            .map(|request| AcquireRequest {
                cost: request.cost,
                token: request.token.as_str(),
                has_priority: request.has_priority,
                delay_us: micros(request.delay),
                returned_at: request.returned_at,
                wait_bound: request.wait_bound,
            })
            .collect();
        let call = Acquire {
            limit_key: &keys.limit(name),
            slots: &keys.limit_slots(name),
            waiting: &keys.limit_waiting(name),
            source: source.as_str(),
            definition: &definition,
            lead_us: micros(window.lead),
            window_us: micros(window.length),
            slot_lease_ms: millis(lease),
            idle_ttl_ms: millis(LIMIT_IDLE_TTL),
            stated_at_ms: stated,
            requests: &requests,
        };
        self.db.call(&call).await
    }

    /// Asks a limit for calls that wait for it, and to lead their drain.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. What a lost reply had granted is lost as well.
    pub async fn drain<'a>(&self, name: &str, request: &DrainRequest<'a>) -> Result<DrainReply, Error> {
        let keys = self.db.keys();
        let call = |call: &'a CallInTurn| WaitingCall {
            cost: call.cost,
            token: call.token.as_str(),
            dies_when_spent: call.dies_when_spent,
        };
        let calls: Vec<WaitingCall<'_>> = request.calls.iter().map(call).collect();
        let emptied = request.emptied.iter().fold(String::new(), |all, (queue, at)| all + queue + " " + at + "\n");
        let call = DrainLimit {
            limit_key: &keys.limit(name),
            slots: &keys.limit_slots(name),
            waiting: &keys.limit_waiting(name),
            group: request.group,
            worker: request.worker,
            lead_ms: millis(request.lease),
            is_full: request.is_full,
            emptied: &emptied,
            lead_us: micros(request.window.lead),
            window_us: micros(request.window.length),
            slot_lease_ms: millis(request.slot_lease),
            idle_ttl_ms: millis(LIMIT_IDLE_TTL),
            calls: &calls,
        };
        self.db.call(&call).await
    }

    /// Tells a limit that calls were parked in a queue to wait for it. Returns how much longer a worker of this group leads their drain.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn announce_waiting(&self, name: &str, queue: &QueueName, group: &str) -> Result<Duration, Error> {
        let keys = self.db.keys();
        let call = AnnounceWaiting {
            limit_key: &keys.limit(name),
            waiting: &keys.limit_waiting(name),
            queue: queue.as_str(),
            group,
            ttl_ms: millis(WAITING_TTL),
        };
        self.db.call(&call).await.map(Duration::from_micros)
    }

    /// Corrects a limit after it granted a call: see [`Adjustment`].
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn adjust(&self, name: &str, adjustment: &Adjustment<'_>) -> Result<Adjusted, Error> {
        let call = Adjust {
            limit_key: &self.db.keys().limit(name),
            close_us: micros(adjustment.close_for),
            closed_by: adjustment.closed_by,
            charge: adjustment.charge,
            cost: adjustment.cost,
            remaining: adjustment.remaining,
            granted_at: adjustment.granted_at,
            said_by: adjustment.said_by.as_str(),
        };
        self.db.call(&call).await
    }

    /// Releases the concurrency slots of calls that have ended, at most [`MAX_BATCH`](crate::consumer::MAX_BATCH). Returns whether other
    /// calls wait for the limit.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The slots then end with their lease.
    pub async fn release_slots(&self, name: &str, ended: &[Token]) -> Result<bool, Error> {
        let keys = self.db.keys();
        let (limit_key, slots, waiting) = (&keys.limit(name), &keys.limit_slots(name), &keys.limit_waiting(name));
        let tokens: Vec<&str> = ended.iter().map(Token::as_str).collect();
        let (_, waits) = self.db.call(&ReleaseSlots { limit_key, slots, waiting, tokens: &tokens }).await?;
        Ok(waits)
    }

    /// Renews the leases of the concurrency slots of calls that are still in flight.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn extend_slots(&self, name: &str, lease: Duration, held: &[Token]) -> Result<(), Error> {
        let keys = self.db.keys();
        for some in held.chunks(crate::consumer::MAX_BATCH) {
            let tokens: Vec<&str> = some.iter().map(Token::as_str).collect();
            let (limit_key, slots) = (&keys.limit(name), &keys.limit_slots(name));
            self.db.call(&ExtendSlots { limit_key, slots, slot_lease_ms: millis(lease), tokens: &tokens }).await?;
        }
        Ok(())
    }

    /// Records that a limit is in use, so that it is listed.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register(&self, name: &str) -> Result<(), Error> {
        let keys = self.db.keys();
        self.db.register_name(&keys.limits(), name, |name| keys.limit(name)).await
    }
}
