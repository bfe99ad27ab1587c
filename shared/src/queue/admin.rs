//! What operators do with a queue: see how full it is and which workers serve it, and pause it.

use std::collections::HashMap;

use crate::fleet::AnnouncedWorker;
use crate::{Error, Queue, UnixMs, WorkerId};

/// A snapshot of a queue. The numbers are read one after the other, so a task that changes state meanwhile may be counted twice or
/// not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

impl Overview {
    /// Adds those of another part of the queue. A worker that serves both is one.
    fn add(&mut self, part: Self) {
        self.waiting += part.waiting;
        self.active += part.active;
        self.scheduled += part.scheduled;
        self.parked += part.parked;
        self.dead += part.dead;
        self.completed += part.completed;
        self.died += part.died;
        self.paused |= part.paused;
        for info in part.workers {
            let id = info.worker.without_queue();
            match self.workers.iter_mut().find(|known| known.worker.without_queue() == id) {
                Some(known) => {
                    known.tasks += info.tasks;
                    known.lease_until = known.lease_until.max(info.lease_until);
                    known.protocol = known.protocol.or(info.protocol);
                    known.release = known.release.take().or(info.release);
                }
                None => self.workers.push(info),
            }
        }
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
        let mut sum = Overview::default();
        for part in self.parts().await? {
            sum.add(part.overview_here(announced).await?);
        }
        Ok(sum)
    }

    async fn overview_here(&self, announced: &[AnnouncedWorker]) -> Result<Overview, Error> {
        let counts = self.counts_here().await?;
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
        // Its own list first: partitions that are added at this moment look there.
        let was_set = self.pause_here().await?;
        for part in self.parts_now().await?.into_iter().skip(1) {
            part.pause_here().await?;
        }
        self.db.register_queues(std::slice::from_ref(&self.name)).await?;
        Ok(was_set)
    }

    async fn pause_here(&self) -> Result<bool, Error> {
        let mut set = redis::cmd("SET");
        set.arg(&self.keys.paused).arg(self.db.now().await?.0).arg("NX");
        let was_set: Option<String> = self.db.run(async |connection| set.query_async(connection).await).await?;
        Ok(was_set.is_some())
    }

    /// Resumes the queue. Returns `false` if it was not paused.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn resume(&self) -> Result<bool, Error> {
        let was_paused = self.resume_here().await?;
        for part in self.parts_now().await?.into_iter().skip(1) {
            part.resume_here().await?;
        }
        Ok(was_paused)
    }

    /// Pauses or resumes these partitions as the queue's own list is.
    pub(super) async fn share_pause(&self, partitions: &[Self]) -> Result<(), Error> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(&self.keys.paused);
        let is_paused: bool = self.db.run(async |connection| exists.query_async(connection).await).await?;
        for partition in partitions {
            if is_paused {
                partition.pause_here().await?
            } else {
                partition.resume_here().await?
            };
        }
        Ok(())
    }

    async fn resume_here(&self) -> Result<bool, Error> {
        let mut del = redis::cmd("DEL");
        del.arg(&self.keys.paused);
        self.db.run(async |connection| del.query_async(connection).await).await
    }
}
