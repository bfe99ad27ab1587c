//! Which fault was active when, and which queues it concerned.

use parking_lot::Mutex;

use redial_tests::stalls;

use crate::faults::Fault;

/// A fault, from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Episode {
    pub(crate) fault: Fault,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// The queues whose tasks it may hold up.
    pub(crate) queues: Vec<&'static str>,
}

/// All faults of a run.
#[derive(Default)]
pub(crate) struct Timeline(Mutex<Vec<Episode>>);

impl Timeline {
    /// Adds a fault that has begun: it lasts until [`end`](Self::end).
    pub(crate) fn begin(&self, fault: Fault, queues: Vec<&'static str>) {
        self.0.lock().push(Episode { fault, from_ms: stalls::now_ms(), to_ms: u64::MAX, queues });
    }

    /// The newest fault is over.
    pub(crate) fn end(&self) {
        if let Some(episode) = self.0.lock().last_mut() {
            episode.to_ms = stalls::now_ms();
        }
    }

    pub(crate) fn episodes(&self) -> Vec<Episode> {
        self.0.lock().clone()
    }

    /// How often a fault was injected.
    pub(crate) fn count(&self, wanted: impl Fn(Fault) -> bool) -> usize {
        self.0.lock().iter().filter(|episode| wanted(episode.fault)).count()
    }

    /// Whether one of these faults was active at some time of this span.
    pub(crate) fn has_between(&self, from_ms: u64, to_ms: u64, wanted: impl Fn(Fault) -> bool) -> bool {
        let episodes = self.0.lock();
        episodes.iter().any(|episode| wanted(episode.fault) && episode.from_ms <= to_ms && episode.to_ms >= from_ms)
    }

    /// When something of this queue that is due at `due_ms` has to be done, at the latest: within `beside_ms`, or within `after_ms` of the
    /// end of every fault that concerned the queue meanwhile.
    pub(crate) fn latest(&self, queue: &str, due_ms: u64, (beside_ms, after_ms): (u64, u64)) -> u64 {
        let mut latest = due_ms + beside_ms;
        for episode in self.0.lock().iter().filter(|episode| episode.queues.contains(&queue)) {
            // A fault shortly before may still be felt.
            if episode.from_ms <= latest && episode.to_ms.saturating_add(after_ms) >= due_ms {
                latest = latest.max(episode.to_ms.saturating_add(after_ms));
            }
        }
        latest.saturating_add(stalls::between(due_ms, latest))
    }
}
