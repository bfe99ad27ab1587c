//! The workers of a fleet, as they announce themselves: so that operators see one that holds no task, and every queue that is served.

pub mod queues;

use std::time::Duration;

use crate::script::fleet::Announce;
use crate::script::millis;
use crate::{Db, Error, QueueName, UnixMs, WorkerId};

/// How long a worker that was killed stays listed.
const KEEP_GONE: Duration = Duration::from_secs(60);

/// A worker and the queues that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingWorker {
    /// Its id.
    pub worker: WorkerId,
    /// Its queues. Each has an id of the worker's own: see [`WorkerId::for_queue`].
    pub queues: Vec<QueueName>,
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
    /// The worker's id at a queue that it serves.
    pub fn id_at(&self, queue: &QueueName) -> Option<WorkerId> {
        let position = self.queues.iter().position(|served| served == queue)?;
        Some(self.worker.for_queue(position))
    }

    /// `<id> <queue>,<queue>`, as Redis has it.
    fn to_entry(&self) -> String {
        let queues: Vec<&str> = self.queues.iter().map(QueueName::as_str).collect();
        format!("{} {}", self.worker, queues.join(","))
    }

    fn parse(entry: &str) -> Option<Self> {
        let (worker, queues) = entry.split_once(' ')?;
        let queues = queues.split(',').map(QueueName::new).collect::<Result<_, _>>().ok()?;
        Some(Self { worker: WorkerId::from_redis(worker.to_owned()), queues })
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
        let serving = ServingWorker { worker: worker.clone(), queues: vec![first.clone(), second.clone()] };
        assert_eq!(serving.to_entry(), "w b,a/0");
        assert_eq!(ServingWorker::parse("w b,a/0").as_ref(), Some(&serving));
        assert_eq!(serving.id_at(&second), Some(worker.for_queue(1)));
        assert_eq!(serving.id_at(&QueueName::new("other")?), None);
        assert_eq!(ServingWorker::parse("w"), None);
        assert_eq!(ServingWorker::parse("w a,,b"), None);
        Ok(())
    }
}
