//! A queue that is spread over partitions: to its users it is one queue. Its own list stays one of the lists from which workers take, so
//! that a producer that pushes there need not know of partitions.
//!
//! What concerns a whole queue asks all of its partitions, what concerns one task first the partition that its id belongs to. A
//! [single](Queue::single) queue is only what lies under its own keys: that is what a worker serves.

use std::sync::Arc;

use crate::db::partition_map::{PartitionMap, home, homes};
use crate::{Error, Queue, QueueName, TaskId};

/// What came of spreading a queue over more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// It has this many partitions now.
    Done {
        /// How many it has.
        partitions: usize,
        /// How many it had before.
        before: usize,
    },
    /// It has more than that already, and keeps them.
    HasMore(usize),
    /// These queues are in use, and would become partitions.
    InUse(Vec<QueueName>),
    /// The queue is a partition of this one.
    IsPartition(QueueName),
}

/// A part of a queue to which some of many tasks are pushed.
#[derive(Debug, Clone)]
pub struct PartOfTasks {
    /// The part, as a single queue.
    pub part: Queue,
    /// The positions of its tasks among the many; `None`: all of them.
    positions: Option<Vec<usize>>,
}

impl PartOfTasks {
    /// Its tasks among the many.
    pub fn of<'a, T>(&self, tasks: &'a [T]) -> Vec<&'a T> {
        match &self.positions {
            None => tasks.iter().collect(),
            Some(positions) => positions.iter().filter_map(|at| tasks.get(*at)).collect(),
        }
    }
}

impl Queue {
    /// The name of the queue of which this is a partition, as far as is known here; else its own.
    pub fn whole_name(&self) -> QueueName {
        self.db.whole_name(&self.name)
    }

    /// The queue without its partitions.
    #[must_use]
    pub fn single(&self) -> Self {
        Self { is_single: true, ..self.clone() }
    }

    /// All parts of the queue, each as a [single](Self::single) queue: itself, and then its partitions in their order.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn parts(&self) -> Result<Vec<Self>, Error> {
        Ok(match self.partition_map().await? {
            Some(map) => self.parts_in(&map),
            None => vec![self.single()],
        })
    }

    /// The same, as Redis says at this moment.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn parts_now(&self) -> Result<Vec<Self>, Error> {
        if self.is_single {
            return Ok(vec![self.clone()]);
        }
        Ok(self.parts_in(&*self.db.partitions_now().await?))
    }

    /// The partitions of all queues, unless this one has none.
    pub(crate) async fn partition_map(&self) -> Result<Option<Arc<PartitionMap>>, Error> {
        if self.is_single {
            return Ok(None);
        }
        Ok(Some(self.db.partitions().await?).filter(|map| map.count(&self.name) > 0))
    }

    fn parts_in(&self, map: &PartitionMap) -> Vec<Self> {
        let partitions = map.of(&self.name).iter().map(|partition| Self {
            name: partition.name.clone(),
            keys: partition.keys.clone(),
            db: self.db.clone(),
            is_single: true,
        });
        std::iter::once(self.single()).chain(partitions).collect()
    }

    /// All parts, beginning with the one to which a task of this id is pushed.
    pub(crate) async fn parts_from_home(&self, id: &TaskId) -> Result<Vec<Self>, Error> {
        let mut parts = self.parts().await?;
        if parts.len() > 1 {
            let home = 1 + home(id, parts.len() - 1);
            parts[..=home].rotate_right(1);
        }
        Ok(parts)
    }

    /// The parts of the queue to which tasks of these ids may have been pushed by now, each with their ids: its own list, and the partitions
    /// that they belong to or did belong to.
    pub(super) async fn parts_of_ids<'a>(&self, ids: &[&'a TaskId]) -> Result<Vec<(Self, Vec<&'a TaskId>)>, Error> {
        let Some(map) = self.partition_map().await? else { return Ok(vec![(self.single(), ids.to_vec())]) };
        let mut of_part = vec![Vec::new(); map.count(&self.name)];
        for id in ids {
            homes(id, of_part.len()).for_each(|home| of_part[home].push(*id));
        }
        let ids_of_part = std::iter::once(ids.to_vec()).chain(of_part);
        Ok(self.parts_in(&map).into_iter().zip(ids_of_part).filter(|(_, ids)| !ids.is_empty()).collect())
    }

    /// The part of the queue to which a task of this id is pushed, as far as is known without asking Redis; and whether there is no other.
    pub(crate) fn known_home(&self, id: &TaskId) -> (Self, bool) {
        let Some(map) = self.db.known_partitions().filter(|_| !self.is_single) else {
            return (self.single(), self.is_single);
        };
        let mut parts = self.parts_in(&map);
        match parts.len() - 1 {
            0 => (parts.swap_remove(0), true),
            count => (parts.swap_remove(1 + home(id, count)), false),
        }
    }

    /// The part of the queue in which a task has a result or begins to answer, asked after `home`. If there is only that one, it is that.
    pub(crate) async fn part_with_answer(&self, home: &Self, id: &TaskId) -> Result<Option<Self>, Error> {
        let parts = self.parts().await?;
        if let [only] = &parts[..]
            && only.name == home.name
        {
            return Ok(parts.into_iter().next());
        }
        for part in std::iter::once(home.clone()).chain(parts) {
            let mut exists = redis::cmd("EXISTS");
            exists.arg(part.keys.stream(id)).arg(part.keys.result(id));
            if self.db.run(async |connection| exists.query_async::<bool>(connection).await).await? {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// The partition of this number, whether or not it is known here.
    pub(crate) fn partition(&self, number: usize) -> Result<Self, Error> {
        Ok(Self::new(self.db.clone(), self.name.partition(number)?).single())
    }

    /// Pushes tasks to the parts of the queue that they were [spread](Self::spread) over, to each in order, and unchecked as
    /// [`enqueue`](Self::enqueue) does.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command. Some tasks may be on the queue already.
    pub async fn enqueue_spread<T: AsRef<[u8]>>(&self, tasks: &[T], spread: &[PartOfTasks]) -> Result<(), Error> {
        for of_part in spread {
            match of_part.positions {
                None => of_part.part.enqueue(tasks).await?,
                Some(_) => of_part.part.enqueue(&of_part.of(tasks)).await?,
            }
        }
        Ok(())
    }

    /// The parts of the queue to which so many tasks are pushed, by their ids.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn spread<'a>(
        &self,
        tasks: usize,
        id_of: impl Fn(usize) -> &'a TaskId,
    ) -> Result<Vec<PartOfTasks>, Error> {
        let Some(map) = self.partition_map().await? else {
            return Ok(vec![PartOfTasks { part: self.single(), positions: None }]);
        };
        let mut positions = vec![Vec::new(); map.count(&self.name)];
        for position in 0..tasks {
            positions[home(id_of(position), map.count(&self.name))].push(position);
        }
        let parts = self.parts_in(&map).into_iter().skip(1).zip(positions);
        let of_tasks = |(part, positions): (Self, Vec<usize>)| PartOfTasks { part, positions: Some(positions) };
        Ok(parts.filter(|(_, positions)| !positions.is_empty()).map(of_tasks).collect())
    }

    /// Spreads the queue over so many partitions from now on. Workers take from them within seconds; tasks that are on the queue stay where
    /// they are. Queues that are in use under the names of partitions become such only if `adopts`.
    ///
    /// # Errors
    /// The name leaves no room for a number, or Redis is unreachable or refuses a command. Safe to repeat.
    pub async fn set_partitions(&self, count: usize, adopts: bool) -> Result<Partitioning, Error> {
        let map = self.db.partitions_now().await?;
        if let Some(whole) = map.whole_of(&self.name) {
            return Ok(Partitioning::IsPartition(whole));
        }
        let before = map.count(&self.name);
        if count < before {
            return Ok(Partitioning::HasMore(before));
        }
        let added: Vec<Self> = (before..count).map(|number| self.partition(number)).collect::<Result<_, _>>()?;
        if !adopts {
            let in_use = self.db.in_use(added.iter().map(Self::name)).await?;
            if !in_use.is_empty() {
                return Ok(Partitioning::InUse(in_use));
            }
        }
        // A queue that is paused stays paused as a whole, also when it is paused or resumed at this moment.
        self.share_pause(&added).await?;
        let partitions = self.db.grow_partitions(&self.name, count).await?;
        self.share_pause(&added).await?;
        self.db.partitions_now().await?;
        self.db.register_queues(std::slice::from_ref(&self.name)).await?;
        Ok(Partitioning::Done { partitions, before })
    }
}
