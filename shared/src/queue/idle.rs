//! Which queues hold anything that a worker must attend to: what a worker that is idle asks about all its queues at once.

use crate::{Db, Error, Queue};

/// How many queues are asked about in one command, so that it does not hold up everyone else: each stands for seven keys.
const MAX_QUEUES: usize = 100;

impl Queue {
    /// Whether the queue holds anything that a worker must attend to: tasks that wait, are scheduled or claimed, replies, wait lists,
    /// schedules.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn is_in_use(&self) -> Result<bool, Error> {
        Ok(self.db.count_keys(&self.attended_keys()).await? > 0)
    }

    fn attended_keys(&self) -> [&str; 7] {
        let keys = &self.keys;
        [&keys.waiting, &keys.handoff, &keys.scheduled, &keys.workers, &keys.replies, &keys.watch, &keys.firings]
    }
}

impl Db {
    /// Which of these queues hold anything that a worker must attend to, by their positions. While none does this takes one command for
    /// a hundred queues. Not for a Cluster, where each queue is a slot of its own.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn queues_in_use(&self, queues: &[Queue]) -> Result<Vec<usize>, Error> {
        let mut in_use = Vec::new();
        for (chunk, some) in queues.chunks(MAX_QUEUES).enumerate() {
            self.find_in_use(some, chunk * MAX_QUEUES, &mut in_use).await?;
        }
        Ok(in_use)
    }

    /// Asks about some queues together, and about each half of them if there is anything: few are in use at a time.
    async fn find_in_use(&self, queues: &[Queue], position: usize, in_use: &mut Vec<usize>) -> Result<(), Error> {
        let keys: Vec<&str> = queues.iter().flat_map(Queue::attended_keys).collect();
        if self.count_keys(&keys).await? == 0 {
            return Ok(());
        }
        if queues.len() == 1 {
            in_use.push(position);
            return Ok(());
        }
        let (first, second) = queues.split_at(queues.len() / 2);
        Box::pin(self.find_in_use(first, position, in_use)).await?;
        Box::pin(self.find_in_use(second, position + first.len(), in_use)).await
    }

    async fn count_keys(&self, keys: &[&str]) -> Result<usize, Error> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(keys);
        self.run(async |connection| exists.query_async(connection).await).await
    }
}
