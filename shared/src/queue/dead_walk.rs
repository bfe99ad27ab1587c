//! Going through the dead letters of a queue, oldest first, and acting on some of them.

use std::collections::VecDeque;

use super::dead_page::DeadLetterSummary;
use crate::{Error, Queue, UnixMs};

/// Letters die by the clocks of workers, which may differ from Redis TIME by this much.
const CLOCK_SLACK_MS: u64 = 5_000;

/// What is done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterAction {
    /// It goes back on the queue.
    Replay {
        /// Even if its upstream may have forgotten its idempotency key, and act a second time.
        forgotten_keys: bool,
    },
    /// It is deleted for good.
    Drop,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterOutcome {
    /// It was replayed or dropped.
    Done,
    /// It was gone already, or Redial did not write it and leaves it.
    NotThere,
    /// It stays: its upstream may have forgotten its idempotency key.
    KeyForgotten,
}

/// A walk over the letters that are there when it begins. Those that die meanwhile, perhaps again, are left alone.
#[derive(Debug)]
pub struct DeadLetterWalk {
    /// The part of the queue in which it is, and those to which it has not come.
    queue: Queue,
    rest: VecDeque<Queue>,
    began: UnixMs,
    /// How many letters there were in this part.
    left: u64,
    /// How many letters stay where they are: those that go let the others move up.
    skip: usize,
    page: VecDeque<DeadLetterSummary>,
}

impl DeadLetterWalk {
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn begin(queue: &Queue) -> Result<Self, Error> {
        let mut rest = VecDeque::from(queue.parts().await?);
        // It is the first of its parts.
        let queue = rest.pop_front().unwrap_or_else(|| queue.single());
        let left = queue.counts().await?.dead;
        let began = queue.db().now().await?;
        Ok(Self { queue, rest, began, left, skip: 0, page: VecDeque::new() })
    }

    /// The next letter; `None` after the last. Each is either left by [`leave`](Self::leave) or acted on by [`act`](Self::act).
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. It can be asked again.
    pub async fn next(&mut self) -> Result<Option<DeadLetterSummary>, Error> {
        loop {
            let letter = self.next_here().await?;
            let Some(next) = self.rest.front().filter(|_| letter.is_none()) else { return Ok(letter) };
            self.left = next.counts().await?.dead;
            self.queue = self.rest.pop_front().unwrap_or_else(|| self.queue.clone());
            self.skip = 0;
            self.page.clear();
        }
    }

    /// The letters behind the last one are younger: it goes on with the next partition.
    pub fn leave_rest(&mut self) {
        self.left = 0;
        self.page.clear();
    }

    async fn next_here(&mut self) -> Result<Option<DeadLetterSummary>, Error> {
        if self.left > 0 && self.page.is_empty() {
            self.page = self.queue.dead_summaries(self.skip).await?.into();
        }
        let newest = self.began.0 + CLOCK_SLACK_MS;
        let letter = self.page.pop_front().filter(|letter| self.left > 0 && letter.at.0 <= newest);
        self.left = if letter.is_some() { self.left - 1 } else { 0 };
        Ok(letter)
    }

    /// The letter stays where it is.
    pub fn leave(&mut self) {
        self.skip += 1;
    }

    /// Acts on the letter that came last.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command. It can be asked again.
    pub async fn act(&mut self, letter: &DeadLetterSummary, action: LetterAction) -> Result<LetterOutcome, Error> {
        if letter.serial.is_empty() {
            self.leave();
            return Ok(LetterOutcome::NotThere);
        }
        // If it is gone, somebody else was faster, and the letters behind it have moved up.
        let whole = self.queue.dead_letter(letter.at, &letter.serial).await?;
        let Some(whole) = whole else { return Ok(LetterOutcome::NotThere) };
        let is_done = match action {
            LetterAction::Replay { forgotten_keys: false } if whole.is_past_its_key(self.began) => {
                self.leave();
                return Ok(LetterOutcome::KeyForgotten);
            }
            LetterAction::Replay { .. } => self.queue.replay(&whole).await?,
            LetterAction::Drop => self.queue.drop_dead(&whole).await?,
        };
        Ok(if is_done { LetterOutcome::Done } else { LetterOutcome::NotThere })
    }
}
