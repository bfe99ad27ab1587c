//! What operators do with limits: define them by hand, look at them, reset them; and what workers configure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::definition::parse_definition;
use super::{DefinedBy, LIMIT_IDLE_TTL, LimitClosure, LimitStatus, Limits, definition};
use crate::protocol::task::Limit;
use crate::script::limit::{DefineLimit, Defined, InspectLimit, ResetLimit};
use crate::script::millis;
use crate::{Error, UnixMs};

/// How many of the fairness keys that wait for a limit are named.
const MAX_WAITING_KEYS: usize = 100;

impl Limits {
    /// Defines a limit by hand, overriding configuration and tasks. It takes effect at once, also for the tasks that wait for it.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn set(&self, limit: &Limit) -> Result<(), Error> {
        self.define(&limit.name, DefinedBy::Set, &definition(limit), UnixMs(0)).await?;
        self.register(&limit.name).await?;
        self.wake_waiters_twice(&limit.name).await
    }

    /// Removes the definition by hand, so that configuration and tasks count again. `false`: there was none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unset(&self, name: &str) -> Result<bool, Error> {
        if self.define(name, DefinedBy::Set, "", UnixMs(0)).await? == Defined::Absent {
            return Ok(false);
        }
        self.wake_waiters_twice(name).await?;
        Ok(true)
    }

    /// States a limit on behalf of a worker that has been configured with it since a time. Of several configurations the newest counts,
    /// for as long as a worker states it at least every few seconds.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn configure(&self, limit: &Limit, since: UnixMs) -> Result<Defined, Error> {
        self.define(&limit.name, DefinedBy::Config, &definition(limit), since).await
    }

    /// The clock by which configurations are compared: Redis TIME.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn now(&self) -> Result<UnixMs, Error> {
        self.db.now().await
    }

    /// Fills the bucket of a limit, and opens it if an upstream had it closed. `false`: there is no such limit.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn reset(&self, name: &str) -> Result<bool, Error> {
        let keys = self.db.keys();
        let (limit_key, reserved, queued) = (&keys.limit(name), &keys.limit_reserved(name), &keys.limit_queued(name));
        let is_there = self.db.call(&ResetLimit { limit_key, reserved, queued }).await?;
        if is_there {
            self.wake_waiters_twice(name).await?;
        }
        Ok(is_there)
    }

    async fn define(&self, name: &str, by: DefinedBy, definition: &str, since: UnixMs) -> Result<Defined, Error> {
        let keys = self.db.keys();
        let call = DefineLimit {
            limit_key: &keys.limit(name),
            reserved: &keys.limit_reserved(name),
            queued: &keys.limit_queued(name),
            source: by.as_str(),
            definition,
            stated_at_ms: since,
            idle_ttl_ms: millis(LIMIT_IDLE_TTL),
        };
        self.db.call(&call).await
    }

    /// Some of the limits that are in use or were recently, in no particular order, and where the next ones begin; `None` after the
    /// last. Begin with 0. A limit that comes or goes meanwhile may be missing, one that is used may come twice. Limits that are gone are
    /// no longer listed afterwards.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn page(&self, from: u64) -> Result<(Vec<LimitStatus>, Option<u64>), Error> {
        let index = self.db.keys().limits();
        let (next, mut names) = self.db.names_page(&index, from).await?;
        names.sort();
        let mut statuses = Vec::with_capacity(names.len());
        for some in names.chunks(PARALLEL) {
            let asked = some.iter().map(|name| {
                let (limits, name) = (self.clone(), name.clone());
                tokio::spawn(async move { limits.inspect_naming(&name, 0).await })
            });
            let asked: Vec<_> = asked.collect();
            for (name, answer) in some.iter().zip(asked) {
                let status = answer.await.map_err(|error| Error::Data(error.to_string()))??;
                if status.source.is_some() {
                    statuses.push(status);
                } else {
                    self.db.forget_name(&index, name).await?;
                }
            }
        }
        Ok((statuses, next))
    }

    /// The status of a limit.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn inspect(&self, name: &str) -> Result<LimitStatus, Error> {
        self.inspect_naming(name, MAX_WAITING_KEYS).await
    }

    async fn inspect_naming(&self, name: &str, max_keys: usize) -> Result<LimitStatus, Error> {
        let keys = self.db.keys();
        let call = InspectLimit {
            limit_key: &keys.limit(name),
            reserved: &keys.limit_reserved(name),
            slots: &keys.limit_slots(name),
            queued: &keys.limit_queued(name),
            max_keys,
        };
        let reply = self.db.call(&call).await?;
        let mut waiting: BTreeMap<String, u64> = BTreeMap::new();
        for (key, wait_us) in reply.waiting {
            let longest = waiting.entry(key).or_default();
            *longest = wait_us.max(*longest);
        }
        let closed = Duration::from_micros(reply.closed_us);
        let source = [DefinedBy::Set, DefinedBy::Config, DefinedBy::Inline];
        Ok(LimitStatus {
            name: name.to_owned(),
            source: source.into_iter().find(|source| source.as_str() == reply.source),
            limit: parse_definition(name, &reply.definition).unwrap_or_else(|| Limit::named(name)),
            set: parse_definition(name, &reply.set),
            config: parse_definition(name, &reply.config),
            config_ends_in: Duration::from_micros(reply.config_ends_in_us),
            inline: parse_definition(name, &reply.inline),
            left: reply.tokens_left,
            closed: (!closed.is_zero()).then_some(LimitClosure {
                ends_in: closed,
                since: reply.closed_since,
                by: reply.closed_by,
            }),
            flows: reply.waiting_keys,
            in_flight: reply.in_flight,
            clears_in: Duration::from_micros(reply.clears_in_us),
            waiting: waiting.into_iter().map(|(key, wait_us)| (key, Duration::from_micros(wait_us))).collect(),
        })
    }
}

/// How many limits are asked for their status at the same time.
const PARALLEL: usize = 64;
