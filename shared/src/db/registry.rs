//! The registry: the names of the queues, limits and breakers that are in use, so that operators can list them.

use std::collections::BTreeSet;

use super::Db;
use crate::{Error, QueueName};

/// How long a queue without a worker stays registered if it holds nothing: a day.
const QUEUE_UNUSED_MS: u64 = 86_400_000;

impl Db {
    /// Adds queues to [`Db::known_queues`], or renews them. Of those that were not renewed for a day it drops a few that hold nothing.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register_queues(&self, queues: &[QueueName]) -> Result<(), Error> {
        const MAX_CHECKED: u32 = 20;
        let (registry, now) = (self.keys().queues(), self.now().await?);
        let mut add = redis::pipe();
        if !queues.is_empty() {
            let command = add.cmd("ZADD").arg(&registry);
            for queue in queues {
                command.arg(now.0).arg(queue.as_str());
            }
            command.ignore();
        }
        let unused_since = now.0.saturating_sub(QUEUE_UNUSED_MS);
        add.cmd("ZRANGE").arg(&registry).arg("-inf").arg(unused_since);
        add.arg("BYSCORE").arg("LIMIT").arg(0).arg(MAX_CHECKED);
        let (unused,): (Vec<String>,) = self.run(async |connection| add.query_async(connection).await).await?;
        for name in unused {
            if self.holds_something(&name).await? {
                // Looked at again in a day.
                let mut renew = redis::cmd("ZADD");
                renew.arg(&registry).arg("XX").arg(now.0).arg(&name);
                self.run(async |connection| renew.exec_async(connection).await).await?;
            } else {
                // A worker that begins to serve it at this moment adds it again with its next announcement.
                self.forget_name(&registry, &name).await?;
            }
        }
        Ok(())
    }

    /// Whether a queue has tasks, dead letters, schedules, workers with a lease or a pause.
    async fn holds_something(&self, name: &str) -> Result<bool, Error> {
        let Ok(queue) = QueueName::new(name) else { return Ok(false) };
        let keys = self.keys().for_queue(&queue);
        let mut exists = redis::cmd("EXISTS");
        exists.arg(&[
            keys.waiting,
            keys.handoff,
            keys.scheduled,
            keys.stored,
            keys.workers,
            keys.dead,
            keys.replies,
            keys.schedules,
            keys.paused,
        ]);
        self.run(async |connection| exists.query_async(connection).await).await
    }

    /// Those of these queues that are registered or hold something.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub(crate) async fn in_use(&self, names: impl Iterator<Item = &QueueName>) -> Result<Vec<QueueName>, Error> {
        let mut in_use = Vec::new();
        for name in names {
            let mut score = redis::cmd("ZSCORE");
            score.arg(self.keys().queues()).arg(name.as_str());
            let registered: Option<f64> = self.run(async |connection| score.query_async(connection).await).await?;
            if registered.is_some() || self.holds_something(name.as_str()).await? {
                in_use.push(name.clone());
            }
        }
        Ok(in_use)
    }

    /// The queues under this prefix that have a worker, had one within a day, or hold something and had one before, in alphabetical order.
    /// Partitions are not listed by themselves.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn known_queues(&self) -> Result<BTreeSet<QueueName>, Error> {
        let mut get = redis::cmd("ZRANGE");
        get.arg(self.keys().queues()).arg(0).arg(-1);
        let names: Vec<String> = self.run(async |connection| get.query_async(connection).await).await?;
        let partitions = self.partitions().await?;
        let known = names.iter().filter_map(|name| QueueName::new(name).ok());
        Ok(known.map(|name| partitions.whole_of(&name).unwrap_or(name)).collect())
    }

    /// Adds a name to a registry, or renews it. Of the names that were not renewed for longest it drops a few whose key is gone, so that
    /// a registry does not grow for ever.
    pub(crate) async fn register_name(
        &self,
        registry: &str,
        name: &str,
        key_of: impl Fn(&str) -> String,
    ) -> Result<(), Error> {
        const MAX_DROPPED: isize = 3;
        let now = self.now().await?;
        let mut add = redis::pipe();
        add.cmd("ZADD").arg(registry).arg(now.0).arg(name).ignore();
        add.cmd("ZRANGE").arg(registry).arg(0).arg(MAX_DROPPED - 1);
        let (oldest,): (Vec<String>,) = self.run(async |connection| add.query_async(connection).await).await?;
        for old in oldest.iter().filter(|old| *old != name) {
            let mut exists = redis::cmd("EXISTS");
            exists.arg(key_of(old));
            if !self.run(async |connection| exists.query_async::<bool>(connection).await).await? {
                self.forget_name(registry, old).await?;
            }
        }
        Ok(())
    }

    /// Records that tasks wait because an upstream has as many calls in flight as it may, so that they are counted. The thousand that had so
    /// last are remembered.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn register_busy_upstream(&self, upstream: &str) -> Result<(), Error> {
        const MAX_REMEMBERED: isize = 1_000;
        let (registry, now) = (self.keys().busy_upstreams(), self.now().await?);
        let mut add = redis::pipe();
        add.cmd("ZADD").arg(&registry).arg(now.0).arg(upstream).ignore();
        add.cmd("ZREMRANGEBYRANK").arg(&registry).arg(0).arg(-1 - MAX_REMEMBERED).ignore();
        self.run(async |connection| add.exec_async(connection).await).await
    }

    /// Some of the names in a registry, and where the next ones begin; `None` after the last.
    pub(crate) async fn names_page(&self, registry: &str, from: u64) -> Result<(Option<u64>, Vec<String>), Error> {
        const PAGE_SIZE: usize = 500;
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(registry).arg(from).arg("COUNT").arg(PAGE_SIZE);
        let (next, page): (u64, Vec<(String, f64)>) =
            self.run(async |connection| scan.query_async(connection).await).await?;
        Ok(((next != 0).then_some(next), page.into_iter().map(|(name, _)| name).collect()))
    }

    /// The names in a registry, in alphabetical order.
    pub(crate) async fn registered_names(&self, registry: &str) -> Result<Vec<String>, Error> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(registry).arg(0).arg(-1);
        let mut names: Vec<String> = self.run(async |connection| range.query_async(connection).await).await?;
        names.sort();
        Ok(names)
    }

    /// The names in a registry that were used last, up to `most`.
    pub(crate) async fn recent_names(&self, registry: &str, most: usize) -> Result<Vec<String>, Error> {
        let mut range = redis::cmd("ZREVRANGE");
        range.arg(registry).arg(0).arg(most.saturating_sub(1));
        self.run(async |connection| range.query_async(connection).await).await
    }

    /// Removes a name from a registry.
    pub(crate) async fn forget_name(&self, registry: &str, name: &str) -> Result<(), Error> {
        let mut forget = redis::cmd("ZREM");
        forget.arg(registry).arg(name);
        self.run(async |connection| forget.exec_async(connection).await).await
    }
}
