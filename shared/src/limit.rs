//! Limits: token buckets and concurrency slots, each shared by the whole fleet.
//!
//! A limit is in a Cluster slot of its own. A call that is not admitted yet gets a time at which to ask again, and waits for it in its
//! queue without occupying a worker. At that time it asks again, and only that admits it: a reservation that is used late, or not at
//! all, never becomes a burst. The arithmetic is in `lua/lib/bucket.lua`, the decisions are in `lua/lib/booking.lua`.

mod definition;
mod operate;
mod types;

use std::time::Duration;

use crate::db::Db;
use crate::protocol::id::Token;
use crate::protocol::task::Limit;
use crate::script::limit::{Acquire, AcquireRequest, Adjust, EndedCall, ExtendSlots, ReleaseSlots, WakeWaiters};
use crate::script::{micros, millis};
use crate::{Error, Queue, UnixMs};

pub use crate::script::limit::{Acquired, Adjusted, Defined, Grant, Reservation, WaitBound};
pub use definition::definition;
pub use types::{Adjustment, DefinedBy, LimitClosure, LimitRequest, LimitStatus, SaidBy};

/// The longest wait that a call spends in its worker; for a longer one it goes back to Redis.
pub const MAX_HOLD: Duration = Duration::from_millis(50);
/// How long it takes a worker at most to park a task after a limit has answered.
const PARKING_TIME: Duration = Duration::from_millis(500);
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

    /// Asks a limit to admit calls, in turn. `lease` is how long a concurrency slot lasts unless it is extended; `stated` is when the
    /// newest task that defines the limit like this was first seen, or since when this worker has been configured like this.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again: what a lost reply had granted is lost as well.
    pub async fn acquire(
        &self,
        limit: &Limit,
        source: DefinedBy,
        stated: UnixMs,
        lease: Duration,
        requests: &[LimitRequest],
    ) -> Result<Acquired, Error> {
        let keys = self.db.keys();
        let name = &limit.name;
        let definition = if source == DefinedBy::Name { String::new() } else { definition(limit) };
        let requests: Vec<AcquireRequest<'_>> = requests
            .iter()
            .map(|request| AcquireRequest {
                fairness_key: &request.fairness_key,
                cost: request.cost,
                reservation: request.reservation,
                token: request.token.as_str(),
                wait_bound: request.wait_bound,
            })
            .collect();
        let call = Acquire {
            limit_key: &keys.limit(name),
            reserved: &keys.limit_reserved(name),
            slots: &keys.limit_slots(name),
            queued: &keys.limit_queued(name),
            source: source.as_str(),
            definition: &definition,
            hold_us: micros(MAX_HOLD),
            slot_lease_ms: millis(lease),
            idle_ttl_ms: millis(LIMIT_IDLE_TTL),
            stated_at_ms: stated,
            requests: &requests,
        };
        self.db.call(&call).await
    }

    /// Corrects a limit after it admitted a call: see [`Adjustment`].
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn adjust(&self, name: &str, adjustment: &Adjustment<'_>) -> Result<Adjusted, Error> {
        let keys = self.db.keys();
        let call = Adjust {
            limit_key: &keys.limit(name),
            reserved: &keys.limit_reserved(name),
            close_us: micros(adjustment.close_for),
            closed_by: adjustment.closed_by,
            charge: adjustment.charge,
            cost: adjustment.cost,
            fairness_key: adjustment.fairness_key,
            remaining: adjustment.remaining,
            admitted_at: adjustment.admitted_at,
            said_by: adjustment.said_by.as_str(),
        };
        self.db.call(&call).await
    }

    /// Releases the concurrency slots of calls that have ended, each with how long its call took.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The slots then end with their lease.
    pub async fn release_slots(&self, name: &str, ended: &[(Token, Duration)]) -> Result<(), Error> {
        let keys = self.db.keys();
        for some in ended.chunks(crate::consumer::MAX_BATCH) {
            let calls: Vec<EndedCall<'_>> =
                some.iter().map(|(token, took)| EndedCall { token: token.as_str(), call_us: micros(*took) }).collect();
            let (limit_key, slots) = (&keys.limit(name), &keys.limit_slots(name));
            self.db.call(&ReleaseSlots { limit_key, slots, calls: &calls }).await?;
        }
        Ok(())
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

    /// The second time for tasks that asked before the change but were parked after the first.
    async fn wake_waiters_twice(&self, name: &str) -> Result<(), Error> {
        self.wake_waiters(name).await?;
        tokio::time::sleep(PARKING_TIME).await;
        self.wake_waiters(name).await
    }

    /// Makes all tasks that wait for a limit, in any queue, ask again at once: their reservations are void once its definition has
    /// changed.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to send again.
    pub async fn wake_waiters(&self, name: &str) -> Result<(), Error> {
        for queue in self.db.known_queues().await? {
            Self::wake_waiters_in(&self.db.queue(queue), name).await?;
        }
        Ok(())
    }

    /// A scan sees every task that is there from its beginning to its end, whatever is claimed meanwhile.
    async fn wake_waiters_in(queue: &Queue, name: &str) -> Result<(), Error> {
        const PAGE_SIZE: usize = 200;
        const MAX_BYTES: usize = 256 << 10;
        // Writing a string as JSON cannot fail.
        let json_name = serde_json::to_string(name).unwrap_or_default();
        let (scheduled, stored) = (&queue.keys.scheduled, &queue.keys.stored);
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("ZSCAN");
            scan.arg(scheduled).arg(cursor).arg("COUNT").arg(PAGE_SIZE);
            let (next, page): (u64, Vec<(String, f64)>) =
                queue.db.run(async |connection| scan.query_async(connection).await).await?;
            let mut serials: Vec<String> = page.into_iter().map(|(serial, _)| serial).collect();
            while !serials.is_empty() {
                let some = &serials[..serials.len().min(PAGE_SIZE)];
                let call =
                    WakeWaiters { scheduled, stored, json_name: &json_name, max_bytes: MAX_BYTES, serials: some };
                let seen = queue.db.call(&call).await?;
                serials.drain(..seen.clamp(1, some.len()));
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
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
