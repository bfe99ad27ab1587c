//! What operators do with limits: define them by hand, look at them, reset them; and what workers configure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::definition::parse_definition;
use super::{DefinedBy, LIMIT_IDLE_TTL, LimitClosure, LimitStatus, Limits, definition};
use crate::consumer::{ParkedTasks, WaitList};
use crate::protocol::task::Limit;
use crate::script::limit::{DefineLimit, InspectLimit, ResetLimit};
use crate::script::millis;
use crate::{Error, QueueName, UnixMs};

impl Limits {
    /// Defines a limit by hand, overriding configuration and tasks. It applies to the next grant, also for the calls that wait.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn set(&self, limit: &Limit) -> Result<(), Error> {
        self.define(&limit.name, DefinedBy::Set, &definition(limit), UnixMs(0)).await?;
        self.register(&limit.name).await
    }

    /// Removes the definition by hand, so that configuration and tasks count again. `false`: there was none.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn unset(&self, name: &str) -> Result<bool, Error> {
        self.define(name, DefinedBy::Set, "", UnixMs(0)).await
    }

    /// States a limit on behalf of a worker that has been configured with it since a time. Of several configurations the newest counts,
    /// for as long as a worker states it at least every few seconds.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn configure(&self, limit: &Limit, since: UnixMs) -> Result<(), Error> {
        self.define(&limit.name, DefinedBy::Config, &definition(limit), since).await.map(drop)
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
        self.db.call(&ResetLimit { limit_key: &self.db.keys().limit(name) }).await
    }

    async fn define(&self, name: &str, by: DefinedBy, definition: &str, since: UnixMs) -> Result<bool, Error> {
        let keys = self.db.keys();
        let call = DefineLimit {
            limit_key: &keys.limit(name),
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
        Ok((self.inspect_all(&names).await?, next))
    }

    /// The limits that were used last, up to `most`, by name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn recent(&self, most: usize) -> Result<Vec<LimitStatus>, Error> {
        let mut names = self.db.recent_names(&self.db.keys().limits(), most).await?;
        names.sort();
        self.inspect_all(&names).await
    }

    /// The status of each limit that is still there. The others are taken off the list.
    async fn inspect_all(&self, names: &[String]) -> Result<Vec<LimitStatus>, Error> {
        let index = self.db.keys().limits();
        let mut statuses = Vec::with_capacity(names.len());
        for some in names.chunks(PARALLEL) {
            let asked = some.iter().map(|name| {
                let (limits, name) = (self.clone(), name.clone());
                tokio::spawn(async move { limits.inspect(&name).await })
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
        Ok(statuses)
    }

    /// The status of a limit.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn inspect(&self, name: &str) -> Result<LimitStatus, Error> {
        let keys = self.db.keys();
        let call = InspectLimit {
            limit_key: &keys.limit(name),
            slots: &keys.limit_slots(name),
            waiting: &keys.limit_waiting(name),
        };
        let reply = self.db.call(&call).await?;
        let mut waiting = BTreeMap::new();
        for queue in reply.queues.iter().filter_map(|queue| QueueName::new(queue).ok()) {
            let calls = ParkedTasks::new(self.db.queue(queue.clone()), &WaitList::limit(name)).count().await?;
            *waiting.entry(self.db.whole_name(&queue)).or_insert(0) += calls;
        }
        let waiting = waiting.into_iter().filter(|(_, calls)| *calls > 0).collect();
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
            waiting,
            in_flight: reply.in_flight,
        })
    }
}

/// How many limits are asked for their status at the same time.
const PARALLEL: usize = 64;
