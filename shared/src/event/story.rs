//! The story of one task, for people: where it is, what happened to it, and what belongs to it.

use crate::protocol::event::{TaskEvent, TaskEventKind};
use crate::protocol::follow_ups::TaskLinks;
use crate::protocol::id::Token;
use crate::queue::dead_page::DeadLetterSummary;
use crate::queue::entry::Entry;
use crate::queue::find::{FoundTask, TaskLocation};
use crate::queue::list::LiveState;
use crate::{EntryId, Error, Queue, TaskId, TaskResult, UnixMs};

/// How many entries of the event stream are read at a time, and how often: a stream of the usual size has fewer.
const PAGE_ENTRIES: usize = 200;
const MAX_PAGES: usize = 100;

/// All that Redis has about a task.
#[derive(Debug)]
pub struct TaskStory {
    /// Where it is.
    pub location: TaskLocation,
    /// The producer's bytes, if they are still there.
    pub raw: Option<Vec<u8>>,
    /// What happened to it, in order.
    pub events: Vec<TaskEvent>,
    /// Its dead letter, if it has one.
    pub letter: Option<DeadLetterSummary>,
    /// The tasks that it belongs to, and that belong to it.
    pub links: TaskLinks,
}

impl Queue {
    /// The story of a task. `None`: it is not among up to `limit` tasks in each state.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn story(&self, id: &TaskId, limit: usize) -> Result<Option<TaskStory>, Error> {
        // A task that is rescheduled moves against the order of the search, and may be missed once.
        let found = match self.find_entry(id, limit).await? {
            Some(found) => Some(found),
            None => self.find_entry(id, limit).await?,
        };
        let Some((part, found)) = found else { return Ok(None) };
        let now = self.db().now().await?;
        let (mut raw, mut letter) = (None, None);
        match &found {
            FoundTask::Waiting { before } => {
                let listed = part.list(LiveState::Waiting, *before, 1).await?;
                raw = listed.into_iter().next().map(|listed| listed.raw);
            }
            FoundTask::Taken { entry, .. } | FoundTask::Stored { entry, .. } | FoundTask::Active { entry, .. } => {
                raw = Entry::parse(Token(String::new()), entry.clone()).ok().map(|entry| entry.raw);
            }
            FoundTask::Ended(result) => {
                letter = part.letter_of(id, result).await?;
                if let Some(summary) = &letter {
                    raw = part.dead_letter(summary.at, &summary.serial).await?.map(|whole| whole.raw);
                }
            }
        }
        let kept = super::history::events_of(id, &found, now);
        let since = kept.first().map_or(now, |event| event.at_ms);
        let events = merge(self.recorded_events(id, since).await?, kept);
        let links = TaskLinks::read(raw.as_deref().unwrap_or_default(), id);
        Ok(Some(TaskStory { location: found.into(), raw, events, letter, links }))
    }

    async fn letter_of(&self, id: &TaskId, result: &TaskResult) -> Result<Option<DeadLetterSummary>, Error> {
        if result.status == crate::Status::Ok {
            return Ok(None);
        }
        self.dead_letter_of(id, result.finished_at_ms).await
    }

    /// The events of a task that workers have recorded since then, as far as they are kept.
    async fn recorded_events(&self, id: &TaskId, since: UnixMs) -> Result<Vec<TaskEvent>, Error> {
        let (mut recorded, mut last) = (Vec::new(), EntryId::before_ms(since.0));
        for _ in 0..MAX_PAGES {
            let pages = self.events_after(last, PAGE_ENTRIES).await?;
            let Some(end) = pages.last() else { break };
            last = end.id;
            recorded
                .extend(pages.into_iter().flat_map(|page| page.events).filter(|event| event.task.as_ref() == Some(id)));
        }
        Ok(recorded)
    }
}

/// What was recorded, and what Redis keeps with the task besides. Events may be recorded of some tasks only, and are kept for a while.
fn merge(recorded: Vec<TaskEvent>, kept: Vec<TaskEvent>) -> Vec<TaskEvent> {
    let waits_already = matches!(recorded.last().map(|event| &event.kind), Some(TaskEventKind::Waiting { .. }));
    let mut events = recorded;
    for event in kept {
        let is_known = match &event.kind {
            TaskEventKind::Waiting { .. } => waits_already,
            kind => events.iter().any(|known| is_same(&known.kind, kind)),
        };
        if !is_known {
            events.push(event);
        }
    }
    events.sort_by_key(|event| event.at_ms);
    events
}

fn is_same(one: &TaskEventKind, other: &TaskEventKind) -> bool {
    let number = |kind: &TaskEventKind| match kind {
        TaskEventKind::Started { attempt, .. } | TaskEventKind::AttemptFailed { attempt, .. } => *attempt,
        _ => 0,
    };
    one.name() == other.name() && number(one) == number(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WaitCause;

    #[test]
    fn events_that_were_not_recorded_are_taken_from_the_task() {
        let event = |at, kind| TaskEvent { at_ms: UnixMs(at), task: None, kind };
        let started = |attempt| TaskEventKind::Started { attempt, host: None };
        let wait = |name: &str| TaskEventKind::Waiting {
            cause: WaitCause::Limit,
            name: Some(name.to_owned()),
            until_ms: None,
        };
        let recorded = vec![event(30, started(2)), event(40, wait("l"))];
        let kept = vec![
            event(10, TaskEventKind::Queued),
            event(20, started(1)),
            event(31, started(2)),
            event(50, wait("other")),
        ];
        let times: Vec<u64> = merge(recorded, kept).iter().map(|event| event.at_ms.0).collect();
        assert_eq!(times, [10, 20, 30, 40]);
    }
}
