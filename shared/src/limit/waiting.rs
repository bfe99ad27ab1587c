//! Who waits for a limit.

use std::collections::BTreeMap;

use redis::AsyncCommands as _;

use super::Limits;
use crate::consumer::WaitList;
use crate::{Error, QueueName};

/// The calls of one fairness key that wait for a limit in one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingKey {
    /// The queue.
    pub queue: QueueName,
    /// The fairness key: the tenant of the calls, their first other limit, or their queue.
    pub key: String,
    /// What they take from the limit in all, to the cost of one call.
    pub cost: f64,
}

impl Limits {
    /// On whose behalf calls wait for a limit in one of its queues: the `most` fairness keys whose calls take the most, in that order.
    ///
    /// The turns of a key end behind what its calls that wait take, by start-time fair queueing; so this reads one number for each key
    /// and none of the tasks.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn waiting_keys(&self, name: &str, queue: &QueueName, most: usize) -> Result<Vec<WaitingKey>, Error> {
        let mut costs: BTreeMap<String, f64> = BTreeMap::new();
        for part in self.db.queue(queue.clone()).parts().await? {
            for waiting in self.waiting_keys_of(name, part.name(), most).await? {
                *costs.entry(waiting.key).or_default() += waiting.cost;
            }
        }
        let waiting = costs.into_iter().map(|(key, cost)| WaitingKey { queue: queue.clone(), key, cost });
        let mut waiting: Vec<WaitingKey> = waiting.collect();
        waiting.sort_by(|a, b| b.cost.total_cmp(&a.cost).then_with(|| a.key.cmp(&b.key)));
        waiting.truncate(most);
        Ok(waiting)
    }

    /// The same of one part of the queue.
    async fn waiting_keys_of(&self, name: &str, queue: &QueueName, most: usize) -> Result<Vec<WaitingKey>, Error> {
        const PAGE_SIZE: usize = 500;
        let (list, keys) = (WaitList::limit(name), self.db.keys().for_queue(queue));
        let (wait_list, turns) = (keys.wait_list(&list), keys.turns(&list));
        let first: Vec<(String, f64)> =
            self.db.run(async |connection| connection.zrange_withscores(&wait_list, 0, 0).await).await?;
        let Some((_, now)) = first.first() else { return Ok(Vec::new()) };
        let (mut waiting, mut from) = (Vec::new(), 0_u64);
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(&turns).arg(from).arg("COUNT").arg(PAGE_SIZE);
            let (next, page): (u64, Vec<(String, f64)>) =
                self.db.run(async |connection| scan.query_async(connection).await).await?;
            let costs = page.into_iter().map(|(key, end)| (key, end - now)).filter(|(_, cost)| *cost > 0.0);
            waiting.extend(costs.map(|(key, cost)| WaitingKey { queue: queue.clone(), key, cost }));
            waiting.sort_by(|a, b| b.cost.total_cmp(&a.cost).then_with(|| a.key.cmp(&b.key)));
            // A scan may return a key twice while the hash grows.
            waiting.dedup_by(|a, b| a.key == b.key);
            waiting.truncate(most);
            from = next;
            if from == 0 {
                return Ok(waiting);
            }
        }
    }
}
