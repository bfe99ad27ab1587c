//! A worker's lease, and what becomes of its tasks when that ends.

use super::{Consumer, MAX_BATCH, MAX_BATCH_BYTES, RescheduleReason};
use crate::protocol::id::Token;
use crate::script;
use crate::{Error, UnixMs, WorkerId};

/// What a heartbeat tells.
#[derive(Debug)]
pub struct HeartbeatReply {
    /// Redis TIME.
    pub now: UnixMs,
    /// How many tasks this worker holds, by Redis.
    pub held: usize,
    /// How many replies wait to be delivered to another Cluster slot.
    pub undelivered: usize,
    /// How many lines and tasks in them it is time to look after.
    pub watched: usize,
    /// Workers whose lease has ended.
    pub ended: Vec<WorkerId>,
}

/// What one batch of a reap or release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenBack {
    /// Tasks that were made available to other workers.
    pub moved: usize,
    /// Tasks that the worker still holds.
    pub remaining: usize,
}

impl Consumer {
    /// Renews this worker's lease on all its tasks of the queue.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn heartbeat(&self) -> Result<HeartbeatReply, Error> {
        let keys = &self.queue.keys;
        let call = script::HEARTBEAT
            .call()
            .key(&keys.workers)
            .key(&self.active)
            .key(&keys.replies)
            .key(&keys.watch)
            .arg(&self.worker)
            .arg(self.lease.as_millis());
        let reply: Vec<redis::Value> = self.queue.db.invoke(&call).await?;
        let data = || Error::Data("the answer to a heartbeat".into());
        let [now, held, undelivered, watched, ended @ ..] = reply.as_slice() else {
            return Err(data());
        };
        let ended = ended.iter().map(redis::from_redis_value_ref).collect::<Result<Vec<String>, _>>();
        Ok(HeartbeatReply {
            now: UnixMs(redis::from_redis_value_ref(now).map_err(|_| data())?),
            held: redis::from_redis_value_ref(held).map_err(|_| data())?,
            undelivered: redis::from_redis_value_ref(undelivered).map_err(|_| data())?,
            watched: redis::from_redis_value_ref(watched).map_err(|_| data())?,
            ended: ended.map_err(|_| data())?.into_iter().map(WorkerId::from_redis).collect(),
        })
    }

    /// Takes back the tasks of a worker whose lease has ended, a batch at a time. Returns how many this batch took and
    /// how many are left.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn reap(&self, ended: &WorkerId) -> Result<TakenBack, Error> {
        self.take_back(ended, "reaped", &[]).await
    }

    /// Gives back, uncounted, whatever this worker still holds, a batch at a time, and forgets the worker.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn release(&self) -> Result<TakenBack, Error> {
        self.take_back(&self.worker, RescheduleReason::Released.as_str(), &[]).await
    }

    /// Gives back tasks that Redis has in this worker's name and that the worker knows nothing of.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn release_strays(&self, tokens: &[Token]) -> Result<TakenBack, Error> {
        self.take_back(&self.worker, "stray", tokens).await
    }

    /// The tokens of the tasks that Redis has in this worker's name.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn held_tokens(&self) -> Result<Vec<Token>, Error> {
        self.hkeys(&self.active).await
    }

    pub(super) async fn hkeys(&self, hash: &str) -> Result<Vec<Token>, Error> {
        let mut keys = redis::cmd("HKEYS");
        keys.arg(hash);
        let tokens: Vec<String> = self.queue.db.run(async |connection| keys.query_async(connection).await).await?;
        Ok(tokens.into_iter().map(Token).collect())
    }

    async fn take_back(&self, from: &WorkerId, why: &str, tokens: &[Token]) -> Result<TakenBack, Error> {
        let keys = &self.queue.keys;
        let mut call = script::REAP
            .call()
            .key(&keys.workers)
            .key(keys.active(from))
            .key(&keys.scheduled)
            .key(&keys.stats)
            .arg(from)
            .arg(why)
            .arg(MAX_BATCH)
            .arg(MAX_BATCH_BYTES);
        for token in tokens {
            call = call.arg(token.as_str());
        }
        let (moved, remaining) = self.queue.db.invoke(&call).await?;
        Ok(TakenBack { moved, remaining })
    }
}
