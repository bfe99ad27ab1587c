//! Dead letters by what one needs to choose among them: why, where, when. Their tasks stay in Redis, so that a hundred thousand letters
//! can be counted and searched in short steps.

use crate::queue::dead::DeadLetter;
pub use crate::script::dead_page::DeadLetterSummary;
use crate::script::dead_page::DeadPage;
use crate::{Error, Queue, TaskId, UnixMs};

/// How many letters are read in one step, and how many bytes of them: Redis serves no one else meanwhile.
pub(super) const STEP_LETTERS: usize = 100;
const STEP_BYTES: usize = 256 << 10;
/// How many whole letters are read at a time: each may be a megabyte.
const WHOLE_LETTERS: usize = 20;
/// How long before its letter a task may have ended, by the clocks of its worker and of Redis.
const CLOCK_SLACK_MS: u64 = 5_000;

/// Which dead letters are meant. The default: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Those that died of this.
    pub reason: Option<String>,
    /// Those of tasks for this `host:port`.
    pub upstream: Option<String>,
    /// Those whose id, serial, error or upstream contains this text.
    pub text: Option<String>,
}

impl DeadLetterFilter {
    /// Whether a letter is meant.
    pub fn matches(&self, letter: &DeadLetterSummary) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let contains = |text: &String| {
            let fields = [letter.id.as_deref().unwrap_or_default(), &letter.serial, &letter.error, &letter.upstream];
            fields.iter().any(|field| field.to_lowercase().contains(&text.to_lowercase()))
        };
        is(&self.reason, &letter.reason)
            && is(&self.upstream, &letter.upstream)
            && self.text.as_ref().is_none_or(contains)
    }
}

impl Queue {
    /// Some dead letters, oldest first, without the first `skip`; those of partitions follow each other. None: there are no more.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn dead_summaries(&self, skip: usize) -> Result<Vec<DeadLetterSummary>, Error> {
        let Some((part, skip)) = self.part_of_dead(skip).await? else { return Ok(Vec::new()) };
        let page = DeadPage { dead: &part.keys.dead, skip, max_letters: STEP_LETTERS, max_bytes: STEP_BYTES };
        Ok(self.db.call(&page).await?.0)
    }

    /// The dead letters from one position to before another one, oldest first. There are fewer if some are gone meanwhile.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub(super) async fn dead_between(&self, first: usize, end: usize) -> Result<Vec<DeadLetterSummary>, Error> {
        let mut letters = Vec::new();
        while first + letters.len() < end {
            let skip = first + letters.len();
            let max_letters = (end - skip).min(STEP_LETTERS);
            let page = DeadPage { dead: &self.keys.dead, skip, max_letters, max_bytes: STEP_BYTES };
            let page = self.db.call(&page).await?.0;
            if page.is_empty() {
                break;
            }
            letters.extend(page);
        }
        Ok(letters)
    }

    /// The dead letter of this serial that died at this time; `None` if it is gone.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn dead_letter(&self, at: UnixMs, serial: &str) -> Result<Option<DeadLetter>, Error> {
        for part in self.parts().await? {
            let found = part.dead_letter_here(at, serial).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn dead_letter_here(&self, at: UnixMs, serial: &str) -> Result<Option<DeadLetter>, Error> {
        let mut skip = 0;
        loop {
            let mut range = redis::cmd("ZRANGEBYSCORE");
            range.arg(&self.keys.dead).arg(at.0).arg(at.0).arg("LIMIT").arg(skip).arg(WHOLE_LETTERS);
            let page: Vec<Vec<u8>> = self.db.run(async |connection| range.query_async(connection).await).await?;
            skip += page.len();
            let is_last = page.len() < WHOLE_LETTERS;
            let mut letters = page.iter().map(|member| DeadLetter::read(member, at));
            if let Some(found) = letters.find(|letter| letter.serial == serial) {
                return Ok(Some(found));
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    /// The dead letter of a task of this part of the queue that ended about then; `None` if it is gone.
    pub(crate) async fn dead_letter_of(&self, id: &TaskId, ended: UnixMs) -> Result<Option<DeadLetterSummary>, Error> {
        let from = ended.0.saturating_sub(CLOCK_SLACK_MS);
        let mut before = redis::cmd("ZCOUNT");
        before.arg(&self.keys.dead).arg("-inf").arg(format!("({from}"));
        let before: usize = self.db.run(async |connection| before.query_async(connection).await).await?;
        let page = self.dead_summaries(before).await?;
        Ok(page.into_iter().find(|letter| letter.id.as_deref() == Some(id.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::dead_letter_header;
    use crate::{Reason, Status, TaskResult};

    #[test]
    fn the_beginning_of_a_header_says_what_one_chooses_by() -> Result<(), Box<dyn std::error::Error>> {
        let mut result = TaskResult::new(Some(TaskId::new("a")?), Status::Dead, UnixMs(7));
        result.reason = Some(Reason::Rejected);
        result.error = Some(format!("HTTP 404 \u{e4}{}", "\u{e4}".repeat(1_000)));
        result.body_text = Some("x".repeat(5_000));
        let header = dead_letter_header("s:1:1", Some("memo"), &result);
        for end in [header.len(), 1_024] {
            let mut letter = DeadLetterSummary::default();
            letter.read_header(&header.as_bytes()[..end]);
            assert_eq!((letter.serial.as_str(), letter.reason.as_str()), ("s:1:1", "rejected"));
            assert_eq!(letter.id.as_deref(), Some("a"));
            assert!(letter.error.starts_with("HTTP 404 \u{e4}") && letter.error.len() < 400, "{}", letter.error);
        }
        Ok(())
    }

    #[test]
    fn a_filter_finds_a_letter_by_all_that_it_names() {
        let letter = DeadLetterSummary {
            id: Some("Order-7".into()),
            reason: "rejected".into(),
            error: "HTTP 404".into(),
            upstream: "api:443".into(),
            ..DeadLetterSummary::default()
        };
        let filter = |reason: &str, upstream: &str, text: &str| DeadLetterFilter {
            reason: Some(reason.to_owned()).filter(|value| !value.is_empty()),
            upstream: Some(upstream.to_owned()).filter(|value| !value.is_empty()),
            text: Some(text.to_owned()).filter(|value| !value.is_empty()),
        };
        for (reason, upstream, text, is_meant) in [
            ("", "", "", true),
            ("rejected", "api:443", "order", true),
            ("expired", "", "", false),
            ("", "other:443", "", false),
            ("rejected", "", "404", true),
            ("rejected", "", "500", false),
        ] {
            assert_eq!(filter(reason, upstream, text).matches(&letter), is_meant, "{reason} {upstream} {text}");
        }
    }
}
