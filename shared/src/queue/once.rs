//! Pushing a task once, however often a producer that lost the reply sends it.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::script::millis;
use crate::script::task::EnqueueOnce;
use crate::{Error, Queue, TaskId};

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
    /// Pushes a task unless one was pushed under its id in this way within `keep`. Returns `false` if that one had another fingerprint.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. Sending it again pushes nothing twice.
    pub async fn enqueue_once(
        &self,
        id: &TaskId,
        fingerprint: TaskFingerprint,
        keep: Duration,
        task: String,
    ) -> Result<bool, Error> {
        let (waiting, checkpoint) = (&self.keys.waiting, &self.keys.pushed(id));
        let (before, after, ttl_ms) = (0, fingerprint.0, millis(keep));
        let call = EnqueueOnce { waiting, checkpoint, before, after, ttl_ms, tasks: &[task] };
        Ok(self.db.call(&call).await? == fingerprint.0)
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
