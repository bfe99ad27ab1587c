//! The registry: the names of the queues, limits and breakers that are in use, so that operators can list them.

use std::collections::BTreeSet;

use super::Db;
use crate::{Error, QueueName, UnixMs};

impl Db {
    /// Adds a queue to [`Db::known_queues`].
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register_queue(&self, queue: &QueueName) -> Result<(), Error> {
        let mut add = redis::cmd("SADD");
        add.arg(self.keys().queues()).arg(queue.as_str());
        self.run(async |connection| add.exec_async(connection).await).await
    }

    /// The queues under this prefix that have ever had a worker, in alphabetical order.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn known_queues(&self) -> Result<BTreeSet<QueueName>, Error> {
        let mut get = redis::cmd("SMEMBERS");
        get.arg(self.keys().queues());
        let names: Vec<String> = self.run(async |connection| get.query_async(connection).await).await?;
        Ok(names.iter().filter_map(|name| QueueName::new(name).ok()).collect())
    }

    /// Adds a name to a registry, or renews it.
    pub(crate) async fn register_name(&self, registry: &str, name: &str) -> Result<(), Error> {
        let mut add = redis::cmd("ZADD");
        add.arg(registry).arg(UnixMs::local_now().0).arg(name);
        self.run(async |connection| add.exec_async(connection).await).await
    }

    /// The names in a registry, in alphabetical order.
    pub(crate) async fn registered_names(&self, registry: &str) -> Result<Vec<String>, Error> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(registry).arg(0).arg(-1);
        let mut names: Vec<String> = self.run(async |connection| range.query_async(connection).await).await?;
        names.sort();
        Ok(names)
    }

    /// Removes a name from a registry.
    pub(crate) async fn forget_name(&self, registry: &str, name: &str) -> Result<(), Error> {
        let mut forget = redis::cmd("ZREM");
        forget.arg(registry).arg(name);
        self.run(async |connection| forget.exec_async(connection).await).await
    }
}
