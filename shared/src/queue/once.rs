//! Pushing a task once, however often a producer that lost the reply sends it.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::db::partition_map::home;
use crate::script::millis;
use crate::script::push_checkpoint::PushCheckpoint;
use crate::script::task::EnqueueOnce;
use crate::{Error, Queue, TaskId};

/// How much longer Redis keeps to which partition a task was pushed than that it was pushed: longer than any push takes.
const PLACED_LONGER: Duration = Duration::from_secs(600);

/// Identifies what a task asks for: 48 bits of a SHA-256, which tell two calls apart that were given the same name by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFingerprint(u64);

impl TaskFingerprint {
    /// The fingerprint of what these parts say, in this order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // With their lengths, so that bytes cannot move from one part to the next.
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut first = [0; 8];
        first[2..].copy_from_slice(&digest[..6]);
        // 0 stands for a task that was not pushed.
        Self(u64::from_be_bytes(first).max(1))
    }
}

impl Queue {
    /// Pushes a task unless one was pushed under its id in this way within `keep`. Returns the part of the queue where it is; `None` if the
    /// earlier one had another fingerprint.
    ///
    /// Of a queue with partitions, the queue's own slot says to which of them an id was pushed, so that a repeated push goes to the same one
    /// although partitions were added meanwhile.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Sending it again pushes nothing twice.
    pub async fn enqueue_once(
        &self,
        id: &TaskId,
        fingerprint: TaskFingerprint,
        keep: Duration,
        task: String,
    ) -> Result<Option<Self>, Error> {
        let tasks = [task];
        let own = self.single();
        let checkpoint = match self.partition_map().await? {
            None => own.push_once_here(id, fingerprint, keep, &tasks).await?,
            Some(map) => own.place_once(id, home(id, map.count(&self.name)), keep).await?,
        };
        let (part, pushed) = match checkpoint {
            PushCheckpoint::At(pushed) => (own, pushed),
            PushCheckpoint::InPartition(number) => {
                let part = self.partition(number)?;
                match part.push_once_here(id, fingerprint, keep, &tasks).await? {
                    PushCheckpoint::At(pushed) => (part, pushed),
                    PushCheckpoint::InPartition(_) => {
                        return Err(Error::Data(format!("where {id} was pushed once, in a partition of a partition")));
                    }
                }
            }
        };
        Ok((pushed == fingerprint.0).then_some(part))
    }

    async fn push_once_here(
        &self,
        id: &TaskId,
        fingerprint: TaskFingerprint,
        keep: Duration,
        tasks: &[String],
    ) -> Result<PushCheckpoint, Error> {
        let (waiting, checkpoint) = (&self.keys.waiting, &self.keys.pushed(id));
        let call = EnqueueOnce { waiting, checkpoint, before: 0, after: fingerprint.0, ttl_ms: millis(keep), tasks };
        self.db.call(&call).await
    }

    /// Has a task pushed to a partition, unless it was pushed or placed before. Returns where it is.
    async fn place_once(&self, id: &TaskId, partition: usize, keep: Duration) -> Result<PushCheckpoint, Error> {
        let (key, placed) = (self.keys.pushed(id), PushCheckpoint::InPartition(partition));
        let ttl_ms = millis(keep.saturating_add(PLACED_LONGER));
        let mut place = redis::pipe();
        place.cmd("SET").arg(&key).arg(placed.to_string()).arg("NX").arg("PX").arg(ttl_ms).cmd("GET").arg(&key);
        let (is_new, found): (Option<String>, Option<PushCheckpoint>) =
            self.db.run(async |connection| place.query_async(connection).await).await?;
        // The key that was there may have expired in between.
        let found = found.unwrap_or(placed);
        if is_new.is_none() && matches!(found, PushCheckpoint::InPartition(_)) {
            let mut renew = redis::cmd("PEXPIRE");
            renew.arg(&key).arg(ttl_ms);
            self.db.run(async |connection| renew.exec_async(connection).await).await?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_depends_on_every_part_and_on_where_it_ends() {
        let of = |parts: &[&str]| TaskFingerprint::of(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(of(&["POST", "http://h/", "{}"]), of(&["POST", "http://h/", "{}"]));
        for other in [["PUT", "http://h/", "{}"], ["POST", "http://h/{}", ""], ["POST", "http://h", "/{}"]] {
            assert_ne!(of(&["POST", "http://h/", "{}"]), of(&other), "{other:?}");
        }
        // Lua's numbers are exact up to there.
        assert!(of(&["POST"]).0 < 1 << 53);
    }
}
