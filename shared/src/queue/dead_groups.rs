//! How many dead letters there are of each reason and upstream, counted now and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::dead_page::DeadLetterGroup;
use crate::{Error, Queue, QueueName};

/// How many letters are counted: the newest ones.
const MAX_COUNTED: usize = 100_000;
/// Counting takes at most this share of the time: its result is kept for so many times as long as it took, and at least for a second.
const REST_AFTER_COUNT: u32 = 20;

/// The groups of each queue as they were last counted.
#[derive(Debug, Default)]
pub struct GroupCounts(Mutex<HashMap<QueueName, CountedGroups>>);

/// The groups of a queue.
#[derive(Debug, Clone)]
pub struct CountedGroups {
    /// Most letters first.
    pub groups: Vec<DeadLetterGroup>,
    /// How many letters are in them.
    pub counted: usize,
    valid_until: Instant,
}

impl CountedGroups {
    /// Groups that were counted just now.
    pub fn new(groups: Vec<DeadLetterGroup>, counted: usize) -> Self {
        Self { groups, counted, valid_until: Instant::now() }
    }
}

impl GroupCounts {
    /// The groups of a queue, counted unless they were a moment ago. Whoever comes meanwhile waits for the same count.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn of(&self, queue: &Queue) -> Result<CountedGroups, Error> {
        let mut counts = self.0.lock().await;
        counts.retain(|_, counted| counted.valid_until > Instant::now());
        if let Some(counted) = counts.get(queue.name()) {
            return Ok(counted.clone());
        }
        let began = Instant::now();
        let (groups, counted) = queue.dead_groups(MAX_COUNTED).await?;
        let rest = (began.elapsed() * REST_AFTER_COUNT).max(Duration::from_secs(1));
        let counted = CountedGroups { valid_until: Instant::now() + rest, ..CountedGroups::new(groups, counted) };
        counts.insert(queue.name().clone(), counted.clone());
        Ok(counted)
    }
}
