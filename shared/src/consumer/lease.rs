//! A worker's lease, and what happens to its tasks when it ends.

use super::{Consumer, MAX_BATCH, RescheduleReason};
use crate::protocol::id::Token;
use crate::script::millis;
use crate::script::task::{Heartbeat, Reap};
use crate::{Error, WorkerId};

/// The most bytes of one reap, beyond a first task: each entry is copied in Lua more often than for a claim.
const MAX_MOVED_BYTES: usize = 1 << 18;

pub use crate::script::task::{HeartbeatReply, LeaseRenewal, TakenBack};

impl Consumer {
    /// Renews this worker's lease on all its tasks of the queue, and shows what there is to do.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn heartbeat(&self) -> Result<HeartbeatReply, Error> {
        let keys = &self.queue.keys;
        let call = Heartbeat {
            workers: &keys.workers,
            active: &self.active,
            waiting: &keys.waiting,
            handoff: &keys.handoff,
            scheduled: &keys.scheduled,
            replies: &keys.replies,
            watch: &keys.watch,
            firings: &keys.firings,
            worker: self.worker.as_str(),
            lease_ms: millis(self.lease),
        };
        self.queue.db.call(&call).await
    }

    /// Takes back the tasks of a worker whose lease was seen to end, one batch per call, unless the worker has renewed it since.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn reap(&self, ended: &WorkerId, renewal: &LeaseRenewal) -> Result<TakenBack, Error> {
        self.take_back(ended, "reaped", renewal.as_str(), &[]).await
    }

    /// Gives back whatever this worker still holds without counting it, one batch per call, and forgets the worker.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn release(&self) -> Result<TakenBack, Error> {
        self.take_back(&self.worker, RescheduleReason::Released.as_str(), "", &[]).await
    }

    /// Gives back tasks that Redis lists under this worker's name although the worker does not know them.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn release_strays(&self, tokens: &[Token]) -> Result<TakenBack, Error> {
        let tokens: Vec<&str> = tokens.iter().map(Token::as_str).collect();
        self.take_back(&self.worker, "stray", "", &tokens).await
    }

    /// The tokens of the tasks that Redis lists under this worker's name.
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

    async fn take_back(
        &self,
        from: &WorkerId,
        reason: &str,
        renewal: &str,
        tokens: &[&str],
    ) -> Result<TakenBack, Error> {
        let keys = &self.queue.keys;
        let call = Reap {
            workers: &keys.workers,
            active: &keys.active(from),
            scheduled: &keys.scheduled,
            stored: &keys.stored,
            stats: &keys.stats,
            worker: from.as_str(),
            reason,
            renewal,
            max_tasks: MAX_BATCH,
            max_bytes: MAX_MOVED_BYTES,
            tokens,
        };
        self.queue.db.call(&call).await
    }
}
