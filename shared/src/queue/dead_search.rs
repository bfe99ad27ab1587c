//! Searching the dead letters of a queue, from the newest to the oldest.

use super::dead_page::{DeadLetterFilter, DeadLetterSummary, STEP_LETTERS};
use crate::{Error, Queue};

/// How many letters one search looks at.
const MAX_SEARCHED: usize = 4_000;

/// The distance between the positions of partitions. A queue's own letters come first, so that those of a queue without partitions are
/// counted from 0.
const PARTITION_SPAN: usize = 1 << 40;

/// A page of dead letters, newest first; of several partitions, the last one first.
#[derive(Debug)]
pub struct DeadLetterPage {
    /// How many dead letters the queue has.
    pub dead: usize,
    /// Those that were found.
    pub letters: Vec<DeadLetterSummary>,
    /// Before which position the search goes on; `None` at the end.
    pub next: Option<usize>,
}

impl Queue {
    /// Up to `limit` dead letters that are meant, newest first, among those before a position; all are, without one. It looks at no more than
    /// 4,000 letters, so a page may have fewer and yet not be the last.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn newest_dead(
        &self,
        filter: &DeadLetterFilter,
        before: Option<usize>,
        limit: usize,
    ) -> Result<DeadLetterPage, Error> {
        let parts = self.parts().await?;
        let (mut at, mut before) = match before {
            Some(before) => ((before / PARTITION_SPAN).min(parts.len() - 1), Some(before % PARTITION_SPAN)),
            None => (parts.len() - 1, None),
        };
        let mut found = DeadLetterPage { dead: 0, letters: Vec::new(), next: None };
        loop {
            let page = parts[at].newest_dead_here(filter, before.take(), limit - found.letters.len()).await?;
            found.letters.extend(page.letters);
            found.next = page.next.map(|next| at * PARTITION_SPAN + next);
            if found.next.is_some() || at == 0 {
                break;
            }
            at -= 1;
            if found.letters.len() == limit {
                found.next = Some(at * PARTITION_SPAN + (PARTITION_SPAN - 1));
                break;
            }
        }
        found.dead = usize::try_from(self.counts().await?.dead).unwrap_or(usize::MAX);
        Ok(found)
    }

    async fn newest_dead_here(
        &self,
        filter: &DeadLetterFilter,
        before: Option<usize>,
        limit: usize,
    ) -> Result<DeadLetterPage, Error> {
        let dead = usize::try_from(self.counts().await?.dead).unwrap_or(usize::MAX);
        let mut end = before.map_or(dead, |before| before.min(dead));
        let (mut letters, mut searched) = (Vec::new(), 0);
        while end > 0 && letters.len() < limit && searched < MAX_SEARCHED {
            let first = end.saturating_sub(STEP_LETTERS);
            let mut step = self.dead_between(first, end).await?;
            searched += step.len().max(1);
            while let Some(letter) = step.pop() {
                end = first + step.len();
                if filter.matches(&letter) {
                    letters.push(letter);
                }
                if letters.len() == limit {
                    break;
                }
            }
            end = if letters.len() == limit { end } else { first };
        }
        Ok(DeadLetterPage { dead, letters, next: (end > 0).then_some(end) })
    }
}
