//! What operators do with a queue: see how full it is and which workers serve it, and pause it.

use std::collections::HashMap;

use crate::fleet::AnnouncedWorker;
use crate::{Error, Queue, UnixMs, WorkerId};

/// A snapshot of a queue. The numbers are read one after the other, so a task that changes state meanwhile may be counted twice or
/// not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Pushed and not yet claimed.
    pub waiting: u64,
    /// Claimed by a worker.
    pub active: u64,
    /// Waiting for a retry, a delay or a rate limit.
    pub scheduled: u64,
    /// Waiting for another task that makes the same call, or for an upstream that is down.
    pub parked: u64,
    /// Dead letters.
    pub dead: u64,
    /// How many tasks have ever completed.
    pub completed: u64,
    /// How many tasks have ever died.
    pub died: u64,
    /// Whether the queue is paused: workers claim nothing from it.
    pub paused: bool,
    /// The workers that serve it.
    pub workers: Vec<WorkerInfo>,
}

/// A worker that serves a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its id at this queue.
    pub worker: WorkerId,
    /// When its lease ends unless it is renewed. Then the worker counts as dead, and another one takes back its tasks.
    pub lease_until: UnixMs,
    /// How many tasks it holds.
    pub tasks: u64,
    /// The version of the protocol that it speaks, if it has said so.
    pub protocol: Option<u32>,
    /// Its release, if it has said so.
    pub release: Option<String>,
}

impl WorkerInfo {
    fn new(worker: WorkerId, lease_until: UnixMs) -> Self {
        Self { worker, lease_until, tasks: 0, protocol: None, release: None }
    }
}

impl Queue {
    /// A snapshot of the queue. It does not read tasks, so it is cheap however many there are.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn overview(&self) -> Result<Overview, Error> {
        self.overview_among(&self.db.announced_workers().await?).await
    }

    /// The same for one of many queues, if the workers of the fleet have been read already.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn overview_among(&self, announced: &[AnnouncedWorker]) -> Result<Overview, Error> {
        let counts = self.counts().await?;
        let mut ask = redis::pipe();
        ask.cmd("HGETALL").arg(&self.keys.stats).cmd("EXISTS").arg(&self.keys.paused);
        ask.cmd("ZRANGE").arg(&self.keys.workers).arg(0).arg(-1).arg("WITHSCORES");
        let (stats, paused, leases): (HashMap<String, u64>, bool, Vec<(String, f64)>) =
            self.db.run(async |connection| ask.query_async(connection).await).await?;
        let infos = self.worker_infos(leases, announced).await?;
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

    /// The workers that hold tasks, and those that have announced that they serve the queue.
    async fn worker_infos(
        &self,
        leases: Vec<(String, f64)>,
        announced: &[AnnouncedWorker],
    ) -> Result<Vec<WorkerInfo>, Error> {
        let mut infos: Vec<WorkerInfo> = Vec::with_capacity(leases.len());
        for (worker, until) in leases {
            infos.push(WorkerInfo::new(WorkerId::from_redis(worker), UnixMs::from_double(until)));
        }
        for AnnouncedWorker { serving, until } in announced {
            let Some(worker) = serving.id_at(&self.name) else { continue };
            let position = infos.iter().position(|info| info.worker == worker).unwrap_or_else(|| {
                infos.push(WorkerInfo::new(worker, *until));
                infos.len() - 1
            });
            let info = &mut infos[position];
            info.lease_until = info.lease_until.max(*until);
            (info.protocol, info.release) = (serving.protocol, serving.release.clone());
        }
        if infos.is_empty() {
            return Ok(infos);
        }
        let mut ask = redis::pipe();
        for info in &infos {
            ask.cmd("HLEN").arg(self.keys.active(&info.worker));
        }
        let tasks: Vec<u64> = self.db.run(async |connection| ask.query_async(connection).await).await?;
        for (info, tasks) in infos.iter_mut().zip(tasks) {
            info.tasks = tasks;
        }
        Ok(infos)
    }

    /// Pauses the queue: workers claim nothing from it until it is resumed, and finish what they hold. Returns `false` if it was
    /// paused already.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn pause(&self) -> Result<bool, Error> {
        let mut set = redis::cmd("SET");
        set.arg(&self.keys.paused).arg(self.db.now().await?.0).arg("NX");
        let was_set: Option<String> = self.db.run(async |connection| set.query_async(connection).await).await?;
        self.db.register_queues(std::slice::from_ref(&self.name)).await?;
        Ok(was_set.is_some())
    }

    /// Resumes the queue. Returns `false` if it was not paused.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn resume(&self) -> Result<bool, Error> {
        let mut del = redis::cmd("DEL");
        del.arg(&self.keys.paused);
        self.db.run(async |connection| del.query_async(connection).await).await
    }
}
