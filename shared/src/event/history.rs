//! What has happened to one task, as far as Redis keeps it, and what happens next.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::feed::{EventFeed, EventReader};
use crate::protocol::event::{TaskEvent, TaskEventKind, WaitCause};
use crate::protocol::id::Token;
use crate::queue::entry::Entry;
use crate::queue::find::FoundTask;
use crate::{Attempt, Error, Queue, TaskId, TaskResult, UnixMs};

/// How often a reader looks for the result of a task, whose events may not be recorded.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The events of one task: what has happened so far, and then what happens, until it is done.
///
/// The attempts that Redis keeps with the task, or in its result, say what has happened so far. If the workers' events are a sample
/// without this task, its end comes up to two seconds late, with all its attempts.
#[derive(Debug)]
pub struct TaskEventReader {
    queue: Queue,
    id: TaskId,
    feed: EventReader,
    known: KnownEvents,
    /// When to look for the result next.
    check_at: Instant,
}

/// The events of a task that are known, of which some are still to be returned.
#[derive(Debug, Default)]
struct KnownEvents {
    pending: VecDeque<TaskEvent>,
    is_queued: bool,
    started: u32,
    failed: u32,
    last_wait: Option<TaskEventKind>,
    is_done: bool,
}

impl TaskEventReader {
    /// Reads the events of a task. Returns `None` if the task is not among the first `limit` tasks of each state.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn open(feed: &EventFeed, queue: &Queue, id: TaskId, limit: usize) -> Result<Option<Self>, Error> {
        // Read first, so that nothing is missed in between.
        let last = queue.last_event().await?;
        let Some(history) = queue.history(&id, limit).await? else { return Ok(None) };
        let mut known = KnownEvents::default();
        known.add_all(history);
        let check_at = Instant::now() + CHECK_INTERVAL;
        Ok(Some(Self { queue: queue.clone(), id, feed: feed.read(last), known, check_at }))
    }

    /// The next event; `None` behind [`TaskEventKind::Done`]. It waits while Redis is away. It is safe to drop the future: no event is
    /// lost.
    pub async fn next(&mut self) -> Option<TaskEvent> {
        loop {
            if let Some(event) = self.known.pending.pop_front() {
                return Some(event);
            }
            if self.known.is_done {
                return None;
            }
            if let Ok(page) = timeout_at(self.check_at, self.feed.next()).await {
                let own = page.events.into_iter().filter(|event| event.task.as_ref() == Some(&self.id));
                self.known.add_all(own);
            } else {
                self.check_at = Instant::now() + CHECK_INTERVAL;
                if let Ok(Some(result)) = self.queue.ended(&self.id).await {
                    self.known.add_all(of_result(&result));
                }
            }
        }
    }
}

impl KnownEvents {
    fn add_all(&mut self, events: impl IntoIterator<Item = TaskEvent>) {
        for event in events {
            self.add(event);
        }
    }

    /// Adds an event, unless it is known.
    fn add(&mut self, event: TaskEvent) {
        let is_new = match &event.kind {
            TaskEventKind::Queued => !std::mem::replace(&mut self.is_queued, true),
            TaskEventKind::Started { attempt, .. } => raise(&mut self.started, *attempt),
            TaskEventKind::AttemptFailed { attempt, .. } => raise(&mut self.failed, *attempt),
            wait @ TaskEventKind::Waiting { .. } => self.last_wait.replace(wait.clone()).as_ref() != Some(wait),
            TaskEventKind::Done { .. } => !std::mem::replace(&mut self.is_done, true),
        };
        if is_new {
            self.pending.push_back(event);
        }
    }
}

/// Whether a number is higher than the highest one so far.
fn raise(highest: &mut u32, number: u32) -> bool {
    let is_higher = number > *highest;
    *highest = number.max(*highest);
    is_higher
}

impl Queue {
    /// What has happened to a task so far, as far as Redis keeps it: its last attempts, what it waits for, how it ended.
    /// Returns `None` if the task is not among the first `limit` tasks of each state.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn history(&self, id: &TaskId, limit: usize) -> Result<Option<Vec<TaskEvent>>, Error> {
        let Some((_, found)) = self.find_entry(id, limit).await? else { return Ok(None) };
        let now = self.db().now().await?;
        Ok(Some(events_of(id, &found, now)))
    }
}

/// The events of a task that was found now.
pub(super) fn events_of(id: &TaskId, found: &FoundTask, now: UnixMs) -> Vec<TaskEvent> {
    match found {
        FoundTask::Waiting { .. } | FoundTask::Taken { .. } => {
            vec![TaskEvent { at_ms: now, task: Some(id.clone()), kind: TaskEventKind::Queued }]
        }
        FoundTask::Stored { entry, due } => {
            let mut events = of_entry(id, entry.clone());
            let cause = if due.is_some() { WaitCause::Time } else { WaitCause::Other };
            let kind = TaskEventKind::Waiting { cause, name: None, until_ms: *due };
            events.push(TaskEvent { at_ms: now, task: Some(id.clone()), kind });
            events
        }
        FoundTask::Active { entry, .. } => of_entry(id, entry.clone()),
        FoundTask::Ended(result) => of_result(result),
    }
}

/// The events of a task that has not ended.
fn of_entry(id: &TaskId, entry: Vec<u8>) -> Vec<TaskEvent> {
    #[derive(Deserialize)]
    struct Pushed {
        enqueued_at_ms: Option<UnixMs>,
    }
    // Another version wrote it: nothing is known.
    let Ok(Entry { header, raw, .. }) = Entry::parse(Token(String::new()), entry) else { return Vec::new() };
    let pushed_at = serde_json::from_slice::<Pushed>(&raw).ok().and_then(|pushed| pushed.enqueued_at_ms);
    let attempts = header.state.attempts;
    let made = header.state.counted + header.state.uncounted;
    let forgotten = made.saturating_sub(u32::try_from(attempts.len()).unwrap_or(made));
    of_attempts(id, Some(pushed_at.unwrap_or(header.first_seen)), forgotten, &attempts)
}

/// The events of a task that has ended.
fn of_result(result: &TaskResult) -> Vec<TaskEvent> {
    let Some(id) = &result.id else { return Vec::new() };
    let mut events = of_attempts(id, result.enqueued_at_ms, 0, &result.attempts);
    let kind = TaskEventKind::Done {
        status: result.status,
        reason: result.reason,
        error: result.error.clone(),
        source: Some(result.source),
    };
    events.push(TaskEvent { at_ms: result.finished_at_ms, task: Some(id.clone()), kind });
    events
}

/// The events of attempts, of which the first ones are not kept any more.
fn of_attempts(id: &TaskId, queued_at: Option<UnixMs>, forgotten: u32, attempts: &[Attempt]) -> Vec<TaskEvent> {
    let event = |at_ms, kind| TaskEvent { at_ms, task: Some(id.clone()), kind };
    let mut events: Vec<TaskEvent> = queued_at.map(|at| event(at, TaskEventKind::Queued)).into_iter().collect();
    for (attempt, made) in (forgotten + 1..).zip(attempts) {
        events.push(event(made.at_ms, TaskEventKind::Started { attempt, host: None }));
        if let Some(error) = &made.error {
            let kind = TaskEventKind::AttemptFailed {
                attempt,
                http_status: made.http_status,
                took_ms: made.took_ms,
                error: error.clone(),
            };
            events.push(event(made.at_ms.plus(made.took_ms), kind));
        }
    }
    events
}
