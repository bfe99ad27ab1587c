//! The workers of a fleet, as they announce themselves: so that operators see one that holds no task, and every queue that is served.

pub mod queues;

use std::time::Duration;

use crate::script::fleet::Announce;
use crate::script::millis;
use crate::{Db, Error, QueueName, UnixMs, WorkerId, protocol};

/// How long a worker that was killed stays listed.
const KEEP_GONE: Duration = Duration::from_secs(60);

/// A worker and the queues that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingWorker {
    /// Its id.
    pub worker: WorkerId,
    /// Its queues. Each has an id of the worker's own: see [`WorkerId::for_queue`].
    pub queues: Vec<QueueName>,
    /// The [version of the protocol](crate::protocol::VERSION) that it speaks, unless it is so old that it does not say.
    pub protocol: Option<u32>,
    /// Its release, such as 0.1.0, unless it does not say.
    pub release: Option<String>,
}

/// A worker as it last announced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedWorker {
    /// The worker.
    pub serving: ServingWorker,
    /// When it counts as gone unless it announces itself again.
    pub until: UnixMs,
}

impl ServingWorker {
    /// A worker of this release.
    pub fn of_this_release(worker: WorkerId, queues: Vec<QueueName>) -> Self {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Self { worker, queues, protocol: Some(protocol::VERSION), release: Some(release) }
    }

    /// The worker's id at a queue that it serves.
    pub fn id_at(&self, queue: &QueueName) -> Option<WorkerId> {
        let position = self.queues.iter().position(|served| served == queue)?;
        Some(self.worker.for_queue(position))
    }

    /// `<id> <queue>,<queue> <protocol> <release>`, as Redis has it.
    fn to_entry(&self) -> String {
        let queues: Vec<&str> = self.queues.iter().map(QueueName::as_str).collect();
        let queues = queues.join(",");
        match (self.protocol, &self.release) {
            (Some(protocol), Some(release)) => format!("{} {queues} {protocol} {release}", self.worker),
            _ => format!("{} {queues}", self.worker),
        }
    }

    /// Reads the entry of any release: older ones say less, and later ones may say more.
    fn parse(entry: &str) -> Option<Self> {
        let mut fields = entry.split(' ');
        let (worker, queues) = (fields.next()?, fields.next()?);
        let queues = queues.split(',').map(QueueName::new).collect::<Result<_, _>>().ok()?;
        let protocol = fields.next().and_then(|field| field.parse().ok());
        let release = fields.next().map(str::to_owned);
        Some(Self { worker: WorkerId::from_redis(worker.to_owned()), queues, protocol, release })
    }
}

impl Db {
    /// Announces a worker: it counts as gone after `lease`. Returns whether it was not listed: then its queues may have to be registered
    /// as well ([`Db::register_queues`]), as Redis may have lost both.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn announce_worker(&self, serving: &ServingWorker, lease: Duration) -> Result<bool, Error> {
        let announce = Announce {
            announced: &self.keys().announced(),
            entry: &serving.to_entry(),
            lease_ms: millis(lease),
            keep_ms: millis(KEEP_GONE),
        };
        self.call(&announce).await
    }

    /// Takes a worker that ends off the list.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. The worker then is listed as gone for a while.
    pub async fn withdraw_worker(&self, serving: &ServingWorker) -> Result<(), Error> {
        self.forget_name(&self.keys().announced(), &serving.to_entry()).await
    }

    /// The workers that have announced themselves and not ended since.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn announced_workers(&self) -> Result<Vec<AnnouncedWorker>, Error> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.keys().announced()).arg(0).arg(-1).arg("WITHSCORES");
        let entries: Vec<(String, f64)> = self.run(async |connection| range.query_async(connection).await).await?;
        let announced = |(entry, until): (String, f64)| {
            Some(AnnouncedWorker { serving: ServingWorker::parse(&entry)?, until: UnixMs::from_double(until) })
        };
        Ok(entries.into_iter().filter_map(announced).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_the_worker_and_its_queues_in_their_order() -> Result<(), Box<dyn std::error::Error>> {
        let (first, second) = (QueueName::new("b")?, QueueName::new("a/0")?);
        let worker = WorkerId::from_redis("w".into());
        let serving = ServingWorker::of_this_release(worker.clone(), vec![first.clone(), second.clone()]);
        let entry = serving.to_entry();
        assert!(entry.starts_with("w b,a/0 1 "), "{entry}");
        assert_eq!(ServingWorker::parse(&entry).as_ref(), Some(&serving));
        assert_eq!(serving.id_at(&second), Some(worker.for_queue(1)));
        assert_eq!(serving.id_at(&QueueName::new("other")?), None);
        assert_eq!(ServingWorker::parse("w"), None);
        assert_eq!(ServingWorker::parse("w a,,b"), None);
        Ok(())
    }

    #[test]
    fn entries_of_older_and_of_later_releases_are_read() -> Result<(), Box<dyn std::error::Error>> {
        let read = |entry| ServingWorker::parse(entry).map(|serving| (serving.protocol, serving.release));
        assert_eq!(read("w a"), Some((None, None)));
        assert_eq!(read("w a 2 0.9.0 more=1"), Some((Some(2), Some("0.9.0".into()))));
        let old = ServingWorker::parse("w a").ok_or("unreadable")?;
        assert_eq!(old.to_entry(), "w a", "it is withdrawn by the entry that it was announced with");
        Ok(())
    }
}
