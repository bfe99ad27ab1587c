//! Dead letters: tasks that failed for good, kept with their producers' bytes until someone replays or deletes them.

use serde::Deserialize;

use crate::queue::entry::is_delivery;
use crate::script::MoreKeys;
use crate::script::task::{DropDead, Replay};
use crate::{Error, Queue, Reason, Status, TaskId, TaskResult, UnixMs};

/// How many dead letters are read at a time: each may be a megabyte.
const PAGE_SIZE: isize = 20;

/// A task that failed for good.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The task's serial, which is unique; ids may repeat.
    pub serial: String,
    /// When it died.
    pub at: UnixMs,
    /// The hash of the memo under the task's idempotency key, if it has one.
    pub memo: Option<String>,
    /// The result that the producer received.
    pub result: TaskResult,
    /// The producer's bytes, exactly.
    pub raw: Vec<u8>,
    /// The bytes of its header; none if Redial did not write it.
    header: Vec<u8>,
}

impl DeadLetter {
    /// Reads a letter that died then.
    pub(crate) fn read(member: &[u8], at: UnixMs) -> Self {
        Self { at, ..Self::parse(member, 0.0) }
    }

    /// Parses a member of the set. One that Redial did not write does not stop the others: it is shown as it is, and cannot be
    /// replayed.
    fn parse(member: &[u8], at: f64) -> Self {
        #[derive(Deserialize)]
        struct Names {
            serial: String,
            memo: Option<String>,
        }
        let at = UnixMs::from_double(at);
        let newline = member.iter().position(|b| *b == b'\n');
        let (header, raw) = newline.map_or((&[][..], member), |n| (&member[..n], &member[n + 1..]));
        if let (Ok(Names { serial, memo }), Ok(result)) =
            (serde_json::from_slice(header), serde_json::from_slice(header))
        {
            return Self { serial, at, memo, result, raw: raw.to_vec(), header: header.to_vec() };
        }
        let mut result = TaskResult::new(None, Status::Dead, at);
        result.error = Some("not written by Redial, or by another version".into());
        Self { serial: String::new(), at, memo: None, result, raw: member.to_vec(), header: Vec::new() }
    }

    /// The task's id, if it could be read.
    pub fn id(&self) -> Option<&TaskId> {
        self.result.id.as_ref()
    }

    /// Why it is dead.
    pub fn reason(&self) -> Option<Reason> {
        self.result.reason
    }

    /// Whether the upstream may have forgotten its idempotency key, and act a second time if the letter is replayed: Stripe and others
    /// keep keys for a day.
    pub fn is_past_its_key(&self, now: UnixMs) -> bool {
        self.memo.is_some() && now.since(self.at) > crate::memo::IDEMPOTENCY_TTL_MS
    }

    /// All of its bytes, as they are in the set. One that Redial did not write has no header, and cannot be replayed or dropped.
    fn to_bytes(&self) -> Vec<u8> {
        [&self.header, &b"\n"[..], &self.raw].concat()
    }

    /// Whether `name` is the letter's id or serial.
    pub fn is(&self, name: &str) -> bool {
        self.serial == name || self.id().is_some_and(|id| id.as_str() == name)
    }
}

impl Queue {
    /// A page of dead letters, oldest first, without the first `skip`; those of partitions follow each other. An empty page is the end.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn dead_page(&self, skip: usize) -> Result<Vec<DeadLetter>, Error> {
        match self.part_of_dead(skip).await? {
            Some((part, skip)) => part.dead_page_here(skip).await,
            None => Ok(Vec::new()),
        }
    }

    /// The part of the queue in which the dead letter at a position is, and its position there.
    pub(super) async fn part_of_dead(&self, position: usize) -> Result<Option<(Self, usize)>, Error> {
        let mut parts = self.parts().await?;
        if parts.len() == 1 {
            return Ok(parts.pop().map(|part| (part, position)));
        }
        let mut position = position;
        for part in parts {
            let dead = usize::try_from(part.counts_here().await?.dead).unwrap_or(usize::MAX);
            if position < dead {
                return Ok(Some((part, position)));
            }
            position -= dead;
        }
        Ok(None)
    }

    async fn dead_page_here(&self, skip: usize) -> Result<Vec<DeadLetter>, Error> {
        let skip = isize::try_from(skip).unwrap_or(isize::MAX - PAGE_SIZE);
        let mut range = redis::cmd("ZRANGE");
        range.arg(&self.keys.dead).arg(skip).arg(skip + PAGE_SIZE - 1).arg("WITHSCORES");
        let page: Vec<(Vec<u8>, f64)> = self.db.run(async |connection| range.query_async(connection).await).await?;
        Ok(page.into_iter().map(|(member, at)| DeadLetter::parse(&member, at)).collect())
    }

    /// Puts a dead letter back on the queue as if it had just been pushed, and a delivery where deliveries are. A failure stored under its idempotency key is deleted
    /// first, or the task would only get that failure again; a success is kept. Returns `false` if the letter was gone already.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, Error> {
        if let Some(memo) = &letter.memo {
            self.db.memos().forget_failure(memo).await?;
        }
        for part in self.parts().await? {
            if part.replay_here(letter).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn replay_here(&self, letter: &DeadLetter) -> Result<bool, Error> {
        let answer_keys = letter.id().map(|id| [self.keys.result(id), self.keys.stream(id)]);
        let call = Replay {
            dead: &self.keys.dead,
            waiting: &self.keys.waiting,
            stats: &self.keys.stats,
            stored: &self.keys.stored,
            scheduled: &self.keys.scheduled,
            letter: &letter.to_bytes(),
            serial: if is_delivery(&letter.serial) { &letter.serial } else { "" },
            answer_keys: MoreKeys(answer_keys.as_ref().map_or(&[], |keys| keys.as_slice())),
        };
        self.db.call(&call).await
    }

    /// Deletes a dead letter for good. Returns `false` if it was gone already.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn drop_dead(&self, letter: &DeadLetter) -> Result<bool, Error> {
        for part in self.parts().await? {
            let call = DropDead { dead: &part.keys.dead, stats: &part.keys.stats, letter: &letter.to_bytes() };
            if self.db.call(&call).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
