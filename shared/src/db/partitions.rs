//! Reading over how many partitions the queues are spread: one command for all queues, and for a moment.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Db;
use super::partition_map::PartitionMap;
use crate::script::fleet::GrowPartitions;
use crate::{Error, QueueName};

/// How long what is known counts. Numbers only grow, and what is pushed by an old one is found as well.
const MAX_AGE: Duration = Duration::from_secs(2);
/// The same when Redis does not let this user read the numbers, or the node that has them does not answer.
const REFUSED_AGE: Duration = Duration::from_secs(30);
const AWAY_AGE: Duration = Duration::from_secs(5);

impl Db {
    /// The partitions of all queues, as they were a moment ago. While the node of a Cluster that has them does not answer, what was known
    /// last counts; and a user of Redis who may not read them sees none, which is never wrong for a push.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command, and nothing was known before.
    pub async fn partitions(&self) -> Result<Arc<PartitionMap>, Error> {
        match self.shared.partitions.valid() {
            Some(map) => Ok(map),
            // In a box, as it is seldom needed: the futures of all that ask stay small.
            None => self.read_in_box().await,
        }
    }

    fn read_in_box(&self) -> Pin<Box<dyn Future<Output = Result<Arc<PartitionMap>, Error>> + Send + '_>> {
        Box::pin(async {
            let error = match self.partitions_now().await {
                Ok(map) => return Ok(map),
                Err(error) => error,
            };
            let is_refused = matches!(&error, Error::Redis(refusal) if refusal.code() == Some("NOPERM"));
            let known = self.known_partitions().or_else(|| is_refused.then(Arc::default));
            if let Some(map) = &known {
                self.shared.partitions.keep(map, if is_refused { REFUSED_AGE } else { AWAY_AGE });
            }
            known.ok_or(error)
        })
    }

    /// The same as they are now.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn partitions_now(&self) -> Result<Arc<PartitionMap>, Error> {
        let counts = self.partition_counts().await?;
        Ok(self.learn(&counts))
    }

    /// The same for a worker, which serves all that it has ever seen: if Redis has a lower number, as after a failover that lost the last
    /// one, it is raised again, so that no other worker leaves a partition out.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn partitions_kept(&self) -> Result<Arc<PartitionMap>, Error> {
        let counts = self.partition_counts().await?;
        let map = self.learn(&counts);
        for (queue, count) in map.lowered(&counts) {
            self.grow_partitions(queue, count).await?;
        }
        Ok(map)
    }

    fn learn(&self, counts: &HashMap<String, u32>) -> Arc<PartitionMap> {
        let map = Arc::new(PartitionMap::read(self.keys(), counts, self.known_partitions().as_deref()));
        self.shared.partitions.keep(&map, MAX_AGE);
        map
    }

    /// Has a queue spread over at least so many partitions. Returns over how many it is.
    pub(crate) async fn grow_partitions(&self, queue: &QueueName, count: usize) -> Result<usize, Error> {
        let partitions = &self.keys().partitions();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let count = self.call(&GrowPartitions { partitions, queue: queue.as_str(), count }).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn partition_counts(&self) -> Result<HashMap<String, u32>, Error> {
        let mut get = redis::cmd("HGETALL");
        get.arg(self.keys().partitions());
        self.run(async |connection| get.query_async(connection).await).await
    }

    /// The partitions of all queues as they were when this process last asked.
    pub(crate) fn known_partitions(&self) -> Option<Arc<PartitionMap>> {
        self.shared.partitions.known().map.clone()
    }

    /// The name of the queue of which this is a partition, as far as is known here; else the name itself.
    pub fn whole_name(&self, name: &QueueName) -> QueueName {
        let whole = || self.shared.partitions.known().map.as_ref()?.whole_of(name);
        whole().unwrap_or_else(|| name.clone())
    }
}
