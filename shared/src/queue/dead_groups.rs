//! How many dead letters there are of each reason and upstream, counted now and then.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::dead_page::{DeadLetterSummary, STEP_LETTERS};
use crate::{Error, Queue, QueueName, UnixMs};

/// How many letters are counted: the newest ones.
const MAX_COUNTED: usize = 100_000;
/// Counting takes at most this share of the time: its result is kept for so many times as long as it took, and at least for a second.
const REST_AFTER_COUNT: u32 = 20;

/// How many dead letters have the same reason and upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// Why they are dead.
    pub reason: String,
    /// Where their calls went.
    pub upstream: String,
    /// How many there are.
    pub letters: u64,
    /// When the first one died.
    pub oldest: UnixMs,
    /// When the last one did.
    pub newest: UnixMs,
}

/// The groups of each queue as they were last counted.
#[derive(Debug, Default)]
pub struct GroupCounts(Mutex<HashMap<QueueName, CountedGroups>>);

/// The groups of a queue.
#[derive(Debug, Clone)]
pub struct CountedGroups {
    /// Most letters first.
    pub groups: Vec<DeadLetterGroup>,
    /// How many letters are in them: the newest ones.
    pub counted: usize,
    /// How many there were.
    pub dead: usize,
    valid_until: Instant,
}

impl CountedGroups {
    /// Groups that were counted just now.
    pub fn new(groups: Vec<DeadLetterGroup>, counted: usize, dead: usize) -> Self {
        Self { groups, counted, dead, valid_until: Instant::now() }
    }

    /// Whether some letters are in no group, because there are too many or counting them takes too long.
    pub fn is_partial(&self) -> bool {
        self.counted < self.dead
    }
}

impl GroupCounts {
    /// The groups of a queue, counted unless they were a moment ago. Whoever comes meanwhile waits for the same count, which ends after
    /// this time with the letters that were read by then.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn of(&self, queue: &Queue, within: Duration) -> Result<CountedGroups, Error> {
        let mut counts = self.0.lock().await;
        counts.retain(|_, counted| counted.valid_until > Instant::now());
        if let Some(counted) = counts.get(queue.name()) {
            return Ok(counted.clone());
        }
        let began = Instant::now();
        let counted = queue.dead_groups(began + within).await?;
        let rest = (began.elapsed() * REST_AFTER_COUNT).max(Duration::from_secs(1));
        let counted = CountedGroups { valid_until: Instant::now() + rest, ..counted };
        counts.insert(queue.name().clone(), counted.clone());
        Ok(counted)
    }
}

impl Queue {
    /// Counts dead letters from the newest backwards, in short steps, until a deadline; of each partition as many, for as long.
    async fn dead_groups(&self, deadline: Instant) -> Result<CountedGroups, Error> {
        let (mut groups, mut counted, mut dead) = (HashMap::new(), 0, 0);
        let parts = self.parts().await?;
        for (position, part) in parts.iter().enumerate() {
            let left = u32::try_from(parts.len() - position).unwrap_or(u32::MAX);
            let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            let (counted_here, dead_here) = part.count_groups(MAX_COUNTED / parts.len(), until, &mut groups).await?;
            counted += counted_here;
            dead += dead_here;
        }
        let mut groups: Vec<DeadLetterGroup> = groups.into_values().collect();
        groups.sort_by_cached_key(|group| (Reverse(group.letters), group.reason.clone(), group.upstream.clone()));
        Ok(CountedGroups::new(groups, counted, dead))
    }

    /// Adds the newest letters of this part of the queue to the groups. Returns how many were counted, and how many there were.
    async fn count_groups(
        &self,
        most: usize,
        deadline: Instant,
        groups: &mut HashMap<(String, String), DeadLetterGroup>,
    ) -> Result<(usize, usize), Error> {
        let dead = usize::try_from(self.counts().await?.dead).unwrap_or(usize::MAX);
        let (last, mut end) = (dead.saturating_sub(most), dead);
        while end > last {
            let first = end.saturating_sub(STEP_LETTERS).max(last);
            for letter in self.dead_between(first, end).await? {
                count(groups, letter);
            }
            end = first;
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok((dead - end, dead))
    }
}

fn count(groups: &mut HashMap<(String, String), DeadLetterGroup>, letter: DeadLetterSummary) {
    let DeadLetterSummary { at, reason, upstream, .. } = letter;
    let group = groups.entry((reason, upstream)).or_insert_with_key(|(reason, upstream)| DeadLetterGroup {
        reason: reason.clone(),
        upstream: upstream.clone(),
        letters: 0,
        oldest: at,
        newest: at,
    });
    group.letters += 1;
    (group.oldest, group.newest) = (group.oldest.min(at), group.newest.max(at));
}
