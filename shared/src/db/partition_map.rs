//! Over how many partitions the queues are spread, as this process knows it, and which of them a task belongs to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::keys::{FleetKeys, QueueKeys};
use crate::{QueueName, TaskId};

/// How long the others go on with what is known when one asks Redis.
const ASKING_TIME: Duration = Duration::from_secs(1);

/// The partitions of all queues that have some.
#[derive(Debug, Default, Clone)]
pub struct PartitionMap(HashMap<QueueName, Arc<[PartitionKeys]>>);

/// A partition: its name, which is that of a queue, and its keys.
#[derive(Debug, Clone)]
pub(crate) struct PartitionKeys {
    pub name: QueueName,
    pub keys: Arc<QueueKeys>,
}

/// What this process knows.
#[derive(Debug, Default)]
pub(super) struct PartitionCache(Mutex<KnownPartitions>);

#[derive(Debug, Default)]
pub(super) struct KnownPartitions {
    pub(super) map: Option<Arc<PartitionMap>>,
    valid_until: Option<Instant>,
}

impl PartitionMap {
    /// Over how many partitions a queue is spread; 0: over none.
    pub fn count(&self, queue: &QueueName) -> usize {
        self.of(queue).len()
    }

    pub(crate) fn of(&self, queue: &QueueName) -> &[PartitionKeys] {
        self.0.get(queue).map_or(&[], |partitions| partitions)
    }

    /// The names of a queue's partitions.
    pub fn names(&self, queue: &QueueName) -> impl Iterator<Item = &QueueName> {
        self.of(queue).iter().map(|partition| &partition.name)
    }

    /// The queues whose numbers are lower there than here, and what they are here.
    pub(super) fn lowered<'a>(
        &'a self,
        counts: &'a HashMap<String, u32>,
    ) -> impl Iterator<Item = (&'a QueueName, usize)> {
        let known = self.0.iter().map(|(queue, partitions)| (queue, partitions.len()));
        let at = |queue: &QueueName| counts.get(queue.as_str()).map_or(0, |count| *count as usize);
        known.filter(move |(queue, count)| at(queue) < *count)
    }

    /// The queue of which this is a partition.
    pub fn whole_of(&self, name: &QueueName) -> Option<QueueName> {
        let (whole, number) = name.as_partition()?;
        (number < self.count(&whole)).then_some(whole)
    }

    /// These numbers. Where they are lower than those before, Redis was restored from an older copy: the partitions that were there are not
    /// forgotten.
    pub(super) fn read(keys: &FleetKeys, counts: &HashMap<String, u32>, before: Option<&Self>) -> Self {
        let mut map = before.cloned().unwrap_or_default();
        for (name, count) in counts {
            let Ok(queue) = QueueName::new(name) else { continue };
            let count = usize::try_from(*count).unwrap_or(usize::MAX).min(QueueName::MAX_PARTITIONS);
            if count <= map.count(&queue) {
                continue;
            }
            // A name that leaves no room for a number was never given partitions.
            let names = (0..count).map(|number| queue.partition(number)).collect::<Result<Vec<QueueName>, _>>();
            let Ok(names) = names else { continue };
            let partition = |name| PartitionKeys { keys: Arc::new(keys.for_queue(&name)), name };
            map.0.insert(queue, names.into_iter().map(partition).collect());
        }
        map
    }
}

/// The number of the partition to which a task is pushed, of `count`.
pub(crate) fn home(id: &TaskId, count: usize) -> usize {
    homes(id, count).last().unwrap_or(0)
}

/// The partitions to which a task of this id was pushed while there were 1, 2 and so on up to `count` of them, in this order. With each
/// partition that is added, only tasks that now belong to that one move (jump consistent hash, Lamping and Veach, 2014, over the first 8
/// bytes of the SHA-256 of the id), so there are few: about the logarithm of `count`.
pub(crate) fn homes(id: &TaskId, count: usize) -> impl Iterator<Item = usize> {
    let digest = Sha256::digest(id.as_str());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let (mut key, mut next) = (u64::from_be_bytes(first), 0_u64);
    std::iter::from_fn(move || {
        let found = usize::try_from(next).ok().filter(|found| *found < count)?;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // (found + 1) * 2^31 / ((key >> 33) + 1), rounded down.
        next = ((next + 1) << 31) / ((key >> 33) + 1);
        Some(found)
    })
}

impl PartitionCache {
    pub(super) fn known(&self) -> MutexGuard<'_, KnownPartitions> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, if it still counts. Of many who ask at the same time, one learns that it does not, and asks Redis for all.
    pub(super) fn valid(&self) -> Option<Arc<PartitionMap>> {
        let (mut known, now) = (self.known(), Instant::now());
        if known.valid_until.is_some_and(|until| now < until) {
            return known.map.clone();
        }
        known.valid_until = known.map.as_ref().map(|_| now + ASKING_TIME);
        None
    }

    /// Learns it.
    pub(super) fn keep(&self, map: &Arc<PartitionMap>, age: Duration) {
        let mut known = self.known();
        (known.map, known.valid_until) = (Some(map.clone()), Some(Instant::now() + age));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_spread_evenly_and_few_of_them_move_when_partitions_are_added() -> Result<(), crate::Error> {
        let ids: Vec<TaskId> = (0..8_000).map(|n| TaskId::new(&format!("id-{n}"))).collect::<Result<_, _>>()?;
        let mut tasks = [0; 8];
        for id in &ids {
            assert_eq!(home(id, 1), 0);
            let (before, after) = (home(id, 4), home(id, 8));
            assert!(after == before || after >= 4, "{id} moved from {before} to {after}");
            let all: std::collections::BTreeSet<usize> = (1..=8).map(|count| home(id, count)).collect();
            assert_eq!(homes(id, 8).collect::<Vec<_>>(), all.into_iter().collect::<Vec<_>>());
            tasks[after] += 1;
        }
        assert!(tasks.iter().all(|count| (800..1_200).contains(count)), "{tasks:?}");
        Ok(())
    }

    /// Producers in other languages may compute it.
    #[test]
    fn where_a_task_belongs_does_not_change() -> Result<(), crate::Error> {
        let of = |id: &str| -> Result<[usize; 3], crate::Error> {
            let id = TaskId::new(id)?;
            Ok([home(&id, 2), home(&id, 8), home(&id, 256)])
        };
        assert_eq!([of("a1")?, of("order-7")?], [[1, 7, 43], [1, 2, 229]]);
        Ok(())
    }

    #[test]
    fn a_number_that_falls_forgets_no_partition() -> Result<(), crate::Error> {
        let (keys, queue) = (FleetKeys::new("redial"), QueueName::new("q")?);
        let counts = |count| HashMap::from([("q".to_owned(), count)]);
        let four = PartitionMap::read(&keys, &counts(4), None);
        let two = PartitionMap::read(&keys, &counts(2), Some(&four));
        assert_eq!((four.count(&queue), two.count(&queue)), (4, 4));
        assert_eq!(PartitionMap::read(&keys, &HashMap::new(), Some(&four)).count(&queue), 4);
        assert_eq!(two.whole_of(&queue.partition(3)?), Some(queue.clone()));
        assert_eq!(two.whole_of(&queue.partition(4)?), None);
        assert_eq!(two.whole_of(&queue), None);
        Ok(())
    }
}
