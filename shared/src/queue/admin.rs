//! The operator's side of queues: which there are, how full they are, who works on them; and pausing one.

use std::collections::HashMap;

use crate::{Error, Queue, UnixMs, WorkerId};

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
    pub parked: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Tasks that were ever completed here.
    pub completed: u64,
    /// Tasks that ever died here.
    pub died: u64,
    /// Whether it is paused: nothing is claimed from it.
    pub paused: bool,
    /// Its workers.
    pub workers: Vec<WorkerInfo>,
}

/// A worker at a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its name.
    pub worker: WorkerId,
    /// The end of its lease; when that is past, the worker is gone, and another one will take back what it held.
    pub lease_until: UnixMs,
    /// How many tasks it holds.
    pub tasks: u64,
}

impl Queue {
    /// The queue at this moment, without a look at its tasks.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn overview(&self) -> Result<Overview, Error> {
        let counts = self.counts().await?;
        let mut ask = redis::pipe();
        ask.cmd("HGETALL").arg(&self.keys.stats).cmd("EXISTS").arg(&self.keys.paused);
        ask.cmd("ZRANGE").arg(&self.keys.workers).arg(0).arg(-1).arg("WITHSCORES");
        let (stats, paused, workers): (HashMap<String, u64>, bool, Vec<(String, f64)>) =
            self.db.run(async |connection| ask.query_async(connection).await).await?;
        let mut infos = Vec::with_capacity(workers.len());
        if !workers.is_empty() {
            let mut ask = redis::pipe();
            for (worker, _) in &workers {
                ask.cmd("HLEN").arg(self.keys.active(&WorkerId::from_redis(worker.clone())));
            }
            let tasks: Vec<u64> = self.db.run(async |connection| ask.query_async(connection).await).await?;
            for ((worker, until), tasks) in workers.into_iter().zip(tasks) {
                let lease_until = UnixMs::from_double(until);
                infos.push(WorkerInfo { worker: WorkerId::from_redis(worker), lease_until, tasks });
            }
        }
        let stat = |name: &str| stats.get(name).copied().unwrap_or(0);
        Ok(Overview {
            waiting: counts.waiting,
            active: infos.iter().map(|info| info.tasks).sum(),
            scheduled: counts.scheduled,
            parked: counts.parked,
            dead: counts.dead,
            completed: stat("complete"),
            died: stat("dead"),
            paused,
            workers: infos,
        })
    }

    /// Lets workers claim nothing from this queue until it is resumed. What they have in info ends as usual. `false`: it was
    /// paused already.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn pause(&self) -> Result<bool, Error> {
        let mut set = redis::cmd("SET");
        set.arg(&self.keys.paused).arg(UnixMs::local_now().0).arg("NX");
        let was_set: Option<String> = self.db.run(async |connection| set.query_async(connection).await).await?;
        self.db.register_queue(&self.name).await?;
        Ok(was_set.is_some())
    }

    /// Ends a pause. `false`: it was not paused.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn resume(&self) -> Result<bool, Error> {
        let mut del = redis::cmd("DEL");
        del.arg(&self.keys.paused);
        self.db.run(async |connection| del.query_async(connection).await).await
    }
}
