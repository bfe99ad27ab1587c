//! Limits: token buckets and places in flight, each shared by the whole fleet.
//!
//! A limit lies in a slot of its own. A call that may not go yet is given a time to come back at and waits for it in its
//! queue, holding no slot; when it comes, it requests again, and only that lets it go. So a time that was given and not used, or
//! used late, never becomes a burst. The arithmetic is in `lua/lib/bucket.lua`.

mod types;

use std::time::Duration;

use crate::db::Db;
use crate::protocol::id::Token;
use crate::protocol::task::Limit;
use crate::{Error, Queue, UnixMs, script};

pub use types::{Acquired, Adjustment, DefinedBy, Grant, LimitRequest, LimitStatus, Reservation};

/// The longest that a call sits a wait out in its worker, holding a slot; beyond it, it waits in Redis.
pub const MAX_HOLD: Duration = Duration::from_millis(50);
/// How long a limit that only tasks define is kept after its last use, at least.
const LIMIT_IDLE_TTL: Duration = Duration::from_secs(3600);

/// The limits of a fleet.
#[derive(Debug, Clone)]
pub struct Limits {
    db: Db,
}

/// The definition of a limit as scripts read it.
pub fn definition(limit: &Limit) -> String {
    let or_none = |n: Option<String>| n.unwrap_or_else(|| "-".into());
    format!(
        "{} {} {} {}",
        or_none(limit.rate.map(|n| n.to_string())),
        limit.per_ms.unwrap_or(1000),
        or_none(limit.burst.map(|n| n.to_string())),
        or_none(limit.concurrency.map(|n| n.to_string())),
    )
}

impl Limits {
    /// Those of the fleet that `queue` belongs to.
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Asks a limit for calls, in turn. `lease` is how long a place in flight lasts unless it is kept for longer; `stated` when
    /// the newest task came that defines it so. `true` when it is defined otherwise than before: see [`Self::wake_waiters`].
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Safe to ask again: what an answer that was lost had granted is lost as well.
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
        let text = if source == DefinedBy::Name { String::new() } else { definition(limit) };
        let mut call = script::ACQUIRE
            .call()
            .key(keys.limit(name))
            .key(keys.limit_reserved(name))
            .key(keys.limit_slots(name))
            .key(keys.limit_queued(name))
            .arg(source.as_str())
            .arg(text)
            .arg(MAX_HOLD.as_micros())
            .arg(lease.as_millis())
            .arg(LIMIT_IDLE_TTL.as_millis())
            .arg(stated.0);
        for request in requests {
            call = call
                .arg(&request.fairness_key)
                .arg(request.cost)
                .arg(request.reservation.map_or(0, i64::from))
                .arg(request.token.as_str());
        }
        let mut replies = self.db.invoke::<Vec<redis::Value>>(&call).await?.into_iter();
        let definition_changed =
            redis::from_redis_value(replies.next().unwrap_or(redis::Value::Nil)).map_err(|_| bad())?;
        let words = |reply| redis::from_redis_value(reply).map_err(|_| bad()).and_then(grant);
        Ok(Acquired { definition_changed, grants: replies.map(words).collect::<Result<_, _>>()? })
    }

    /// Corrects a limit after it admitted a call: see [`Adjustment`].
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn adjust(&self, name: &str, adjustment: &Adjustment<'_>) -> Result<(), Error> {
        let keys = self.db.keys();
        let call = script::ADJUST
            .call()
            .key(keys.limit(name))
            .key(keys.limit_reserved(name))
            .arg(adjustment.close_for.as_micros())
            .arg(adjustment.charge)
            .arg(adjustment.fairness_key)
            .arg(adjustment.remaining.map(|n| n.to_string()).unwrap_or_default())
            .arg(adjustment.admitted_at);
        let _known: u8 = self.db.invoke(&call).await?;
        Ok(())
    }

    /// Gives back the places of calls in flight that have ended, each with how long its call took.
    ///
    /// # Errors
    /// That of Redis: then they end by themselves with their lease.
    pub async fn release_slots(&self, name: &str, ended: &[(Token, Duration)]) -> Result<(), Error> {
        self.places(name, Duration::ZERO, ended).await
    }

    /// Keeps the places of calls that are still in flight.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn extend_slots(&self, name: &str, lease: Duration, held: &[Token]) -> Result<(), Error> {
        let held: Vec<_> = held.iter().map(|token| (token.clone(), Duration::ZERO)).collect();
        self.places(name, lease, &held).await
    }

    async fn places(&self, name: &str, lease: Duration, tokens: &[(Token, Duration)]) -> Result<(), Error> {
        let keys = self.db.keys();
        for some in tokens.chunks(crate::consumer::MAX_BATCH) {
            let mut call = script::RELEASE_SLOTS.call().key(keys.limit(name)).key(keys.limit_slots(name));
            call = call.arg(lease.as_millis());
            for (token, took) in some {
                call = call.arg(token.as_str()).arg(took.as_micros());
            }
            let _held: u64 = self.db.invoke(&call).await?;
        }
        Ok(())
    }

    /// Defines a limit by hand, in place of what configuration and tasks say. In force at once.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn set(&self, limit: &Limit) -> Result<(), Error> {
        self.define(&limit.name, &definition(limit)).await.map(|_| ())
    }

    /// Takes back the definition by hand, so that configuration and tasks count again. `false`: there was none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unset(&self, name: &str) -> Result<bool, Error> {
        self.define(name, "").await
    }

    async fn define(&self, name: &str, definition: &str) -> Result<bool, Error> {
        let keys = self.db.keys();
        let call = script::DEFINE
            .call()
            .key(keys.limit(name))
            .key(keys.limit_reserved(name))
            .key(keys.limit_queued(name))
            .arg(definition)
            .arg(LIMIT_IDLE_TTL.as_millis());
        let done = self.db.invoke(&call).await?;
        self.register(name).await?;
        Ok(done)
    }

    /// Lets all tasks that wait for a limit, in whichever queue, ask again at once, as it is another than when they were given their
    /// times.
    ///
    /// # Errors
    /// That of Redis; safe to send again.
    pub async fn wake_waiters(&self, name: &str) -> Result<(), Error> {
        for queue in self.db.known_queues().await? {
            Self::wake_waiters_in(&self.db.queue(queue), name).await?;
        }
        Ok(())
    }

    async fn wake_waiters_in(queue: &Queue, name: &str) -> Result<(), Error> {
        const AT_A_TIME: usize = 500;
        // A string is always JSON.
        let name = serde_json::to_string(name).unwrap_or_default();
        let mut from = 0;
        loop {
            let call = script::HASTEN.call().key(&queue.keys.scheduled).arg(&name).arg(from).arg(AT_A_TIME);
            let seen: usize = queue.db.invoke(&call).await?;
            if seen < AT_A_TIME {
                return Ok(());
            }
            from += seen;
        }
    }

    /// Notes that a limit is in use, so that it can be listed.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register(&self, name: &str) -> Result<(), Error> {
        self.db.register_name(&self.db.keys().limits(), name).await
    }

    /// The limits that are, or were in use not long ago, each as it stands. Those that are gone are forgotten.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn list(&self) -> Result<Vec<LimitStatus>, Error> {
        let index = self.db.keys().limits();
        let mut statuses = Vec::new();
        for name in self.db.registered_names(&index).await? {
            let inspect = self.inspect(&name).await?;
            if inspect.source.is_some() {
                statuses.push(inspect);
            } else {
                self.db.forget_name(&index, &name).await?;
            }
        }
        Ok(statuses)
    }

    /// How a limit stands.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn inspect(&self, name: &str) -> Result<LimitStatus, Error> {
        let keys = self.db.keys();
        let call =
            script::LEVEL.call().key(keys.limit(name)).key(keys.limit_reserved(name)).key(keys.limit_slots(name));
        let (source, text, left, closed, flows, in_flight, clears): (String, String, String, u64, u64, u64, u64) =
            self.db.invoke(&call).await?;
        let source = [DefinedBy::Set, DefinedBy::Config, DefinedBy::Inline].into_iter().find(|s| s.as_str() == source);
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let limit = Limit {
            name: name.to_owned(),
            cost: None,
            rate: word().parse().ok(),
            per_ms: word().parse().ok(),
            burst: word().parse().ok(),
            concurrency: word().parse().ok(),
            usage: None,
        };
        let us = Duration::from_micros;
        Ok(LimitStatus {
            name: name.to_owned(),
            source,
            limit,
            left: left.parse().ok(),
            closed: us(closed),
            flows,
            in_flight,
            clears_in: us(clears),
        })
    }
}

fn bad() -> Error {
    Error::Data("what a limit says".into())
}

fn grant(words: Vec<redis::Value>) -> Result<Grant, Error> {
    let mut words = words.into_iter();
    let mut next = || words.next().unwrap_or(redis::Value::Nil);
    let us = |value| redis::from_redis_value::<u64>(value).map(Duration::from_micros).map_err(|_| bad());
    let code: String = redis::from_redis_value(next()).map_err(|_| bad())?;
    Ok(match code.as_str() {
        "go" => Grant::Admitted {
            wait: us(next())?,
            holds_slot: redis::from_redis_value(next()).map_err(|_| bad())?,
            admitted_at: redis::from_redis_value(next()).map_err(|_| bad())?,
        },
        "park" => {
            let wait = us(next())?;
            let number: i64 = redis::from_redis_value(next()).map_err(|_| bad())?;
            Grant::Reserved(wait, number.into())
        }
        "over" => Grant::OverBurst(redis::from_redis_value(next()).map_err(|_| bad())?),
        "undefined" => Grant::Undefined,
        _ => return Err(bad()),
    })
}
