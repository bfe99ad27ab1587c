//! The operator's side of queues: which there are, how full they are, who works on them; and pausing one.

use std::collections::{BTreeSet, HashMap};

use crate::{Error, Queue, QueueName, UnixMs, WorkerId};

/// A queue at one moment. The numbers are read one after the other, so that a task on its way may be counted in two places or in
/// none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Pushed and not yet claimed.
    pub waiting: u64,
    /// In a worker's hands.
    pub active: u64,
    /// Waiting for a retry, a delay or a free place.
    pub scheduled: u64,
    /// Waiting for the answer of another task that makes the same call.
    pub following: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Tasks that were ever completed here.
    pub completed: u64,
    /// Tasks that ever died here.
    pub died: u64,
    /// Whether it is paused: nothing is claimed from it.
    pub paused: bool,
    /// Its workers.
    pub workers: Vec<Hand>,
}

/// A worker at a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hand {
    /// Its name.
    pub worker: WorkerId,
    /// The end of its lease; when that is past, the worker is gone, and another one will take back what it held.
    pub lease_until: UnixMs,
    /// How many tasks it has in hand.
    pub holds: u64,
}

impl Queue {
    /// The queue at this moment, without a look at its tasks.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn overview(&self) -> Result<Overview, Error> {
        let counts = self.counts().await?;
        let mut ask = redis::pipe();
        ask.cmd("HGETALL").arg(&self.keys.stats).cmd("EXISTS").arg(&self.keys.paused);
        ask.cmd("ZRANGE").arg(&self.keys.workers).arg(0).arg(-1).arg("WITHSCORES");
        let (stats, paused, workers): (HashMap<String, u64>, bool, Vec<(String, f64)>) =
            self.link.run(async |wire| ask.query_async(wire).await).await?;
        let mut hands = Vec::with_capacity(workers.len());
        if !workers.is_empty() {
            let mut ask = redis::pipe();
            for (worker, _) in &workers {
                ask.cmd("HLEN").arg(self.keys.active(&WorkerId::from_redis(worker.clone())));
            }
            let holds: Vec<u64> = self.link.run(async |wire| ask.query_async(wire).await).await?;
            for ((worker, until), holds) in workers.into_iter().zip(holds) {
                let lease_until = UnixMs::from_double(until);
                hands.push(Hand { worker: WorkerId::from_redis(worker), lease_until, holds });
            }
        }
        let stat = |name: &str| stats.get(name).copied().unwrap_or(0);
        Ok(Overview {
            waiting: counts.waiting,
            active: hands.iter().map(|hand| hand.holds).sum(),
            scheduled: counts.scheduled,
            following: counts.following,
            dead: counts.dead,
            completed: stat("complete"),
            died: stat("dead"),
            paused,
            workers: hands,
        })
    }

    /// Lets workers claim nothing from this queue until it is resumed. What they have in hand ends as usual. `false`: it was
    /// paused already.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn pause(&self) -> Result<bool, Error> {
        let mut set = redis::cmd("SET");
        set.arg(&self.keys.paused).arg(UnixMs::local().0).arg("NX");
        let was_set: Option<String> = self.link.run(async |wire| set.query_async(wire).await).await?;
        self.register().await?;
        Ok(was_set.is_some())
    }

    /// Ends a pause. `false`: it was not paused.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn resume(&self) -> Result<bool, Error> {
        let mut del = redis::cmd("DEL");
        del.arg(&self.keys.paused);
        self.link.run(async |wire| del.query_async(wire).await).await
    }

    /// Puts the queue's name among those of [`Queue::known`].
    ///
    /// # Errors
    /// That of Redis.
    pub async fn register(&self) -> Result<(), Error> {
        let mut add = redis::cmd("SADD");
        add.arg(&self.keys.queues).arg(self.name.as_str());
        self.link.run(async |wire| add.exec_async(wire).await).await
    }

    /// The queues under this prefix that ever had a worker, in the order of their names.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn known(&self) -> Result<BTreeSet<QueueName>, Error> {
        let mut get = redis::cmd("SMEMBERS");
        get.arg(&self.keys.queues);
        let names: Vec<String> = self.link.run(async |wire| get.query_async(wire).await).await?;
        Ok(names.iter().filter_map(|name| QueueName::new(name).ok()).collect())
    }
}
