//! One connection that reads up to a hundred streams with one blocking command, and hands their entries to whoever reads them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;
use tokio::sync::mpsc;

use super::reply::{self, FoundEntries};
use crate::db::{BLOCK_TIMEOUT, Link};
use crate::protocol::stream::StreamFailure;
use crate::{EntryId, Error, ErrorRecovery, Queue, StreamEntry, StreamEvent, TaskId};

/// The most streams of one command: each wake-up costs Redis about half a microsecond for each of them.
pub(super) const MAX_STREAMS: usize = 100;
/// The most entries of each stream that one command reads.
const MAX_ENTRIES: usize = 8;
/// The most entries of a stream that wait for their reader.
const MAX_WAITING: usize = 2 * MAX_ENTRIES;
/// From how many streams on, commands keep a distance, in which entries of several streams come together.
const PACED_FROM: usize = 8;
const PACE: Duration = Duration::from_millis(3);
/// A stream that says nothing for this long is suspected to be none, if its task has a result.
const QUIET: Duration = Duration::from_secs(4);
/// How long a wake-up is kept that nobody reads.
const WAKEUP_TTL_MS: u64 = 60_000;

/// The streams that one connection reads.
#[derive(Debug)]
pub(super) struct Feed {
    queue: Queue,
    link: Link,
    wakeup_key: String,
    state: Mutex<FeedState>,
    /// A wake-up is on its way.
    is_woken: AtomicBool,
}

#[derive(Debug, Default)]
struct FeedState {
    subscribers: Vec<Subscriber>,
    /// The loop that reads runs.
    is_running: bool,
}

/// Someone who reads a stream.
#[derive(Debug)]
struct Subscriber {
    id: TaskId,
    key: String,
    /// The last entry that was handed over.
    last: EntryId,
    entries: mpsc::Sender<StreamEntry>,
    stalled: StallSignal,
    /// Since when there was nothing.
    quiet_since: Instant,
    /// The task has a result, as was seen since then.
    has_result: bool,
}

/// Set while a reader has no room for more, so that it says when it has.
#[derive(Debug, Clone, Default)]
pub(super) struct StallSignal(Arc<AtomicBool>);

impl StallSignal {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was set.
    pub(super) fn clear(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Subscriber {
    /// Whether the next entries fit.
    fn has_room(&self) -> bool {
        if Feed::has_room(self.entries.capacity()) {
            return true;
        }
        self.stalled.set();
        // Its reader may have made room just before it could see that.
        Feed::has_room(self.entries.capacity()) && self.stalled.clear()
    }

    /// Hands an entry over. `false`: there is nothing more to hand over, now or ever.
    fn take(&mut self, entry: &StreamEntry) -> bool {
        if entry.id <= self.last {
            return true;
        }
        let taken = self.entries.try_send(entry.clone()).is_ok();
        if taken {
            self.last = entry.id;
            self.quiet_since = Instant::now();
            self.has_result = false;
        }
        taken
    }

    /// Ends the stream with a failure of its own.
    fn fail(&self, failure: StreamFailure) {
        // There is room: nothing was read for this stream.
        let _ = self.entries.try_send(StreamEntry { id: self.last, event: StreamEvent::Error(failure) });
    }
}

impl Feed {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            link: queue.db.blocking_link(),
            wakeup_key: queue.keys.stream_wakeup(TaskId::random().as_str()),
            queue,
            state: Mutex::default(),
            is_woken: AtomicBool::new(false),
        }
    }

    /// Whether it reads streams of this part of a queue.
    pub(super) fn is_of(&self, part: &Queue) -> bool {
        self.queue.name == part.name
    }

    /// How many read here.
    pub(super) fn len(&self) -> usize {
        self.state().subscribers.len()
    }

    pub(super) fn has_room(capacity: usize) -> bool {
        capacity >= MAX_ENTRIES
    }

    /// Reads another stream from now on. The signal is for a reader that made room.
    pub(super) fn subscribe(
        this: &Arc<Self>,
        id: &TaskId,
        after: EntryId,
    ) -> (mpsc::Receiver<StreamEntry>, StallSignal) {
        let (sender, entries) = mpsc::channel(MAX_WAITING);
        let stalled = StallSignal::default();
        let subscriber = Subscriber {
            id: id.clone(),
            key: this.queue.keys.stream(id),
            last: after,
            entries: sender,
            stalled: stalled.clone(),
            quiet_since: Instant::now(),
            has_result: false,
        };
        let was_running = {
            let mut state = this.state();
            state.subscribers.push(subscriber);
            std::mem::replace(&mut state.is_running, true)
        };
        if was_running {
            Self::wake(this);
        } else {
            tokio::spawn(this.clone().run());
        }
        (entries, stalled)
    }

    /// Has the command that blocks return at once. If that fails, it returns within [`BLOCK_TIMEOUT`].
    pub(super) fn wake(this: &Arc<Self>) {
        if this.is_woken.swap(true, Ordering::SeqCst) {
            return;
        }
        let feed = this.clone();
        tokio::spawn(async move {
            let mut wake = redis::pipe();
            wake.cmd("XADD").arg(&feed.wakeup_key).arg("MAXLEN").arg(1).arg("*").arg("t").arg("wakeup");
            wake.cmd("PEXPIRE").arg(&feed.wakeup_key).arg(WAKEUP_TTL_MS);
            if let Err(error) = feed.queue.db.run(async |connection| wake.exec_async(connection).await).await {
                tracing::debug!(%error, "could not wake a reader of streams");
            }
        });
    }

    /// Reads until nobody does any more.
    async fn run(self: Arc<Self>) {
        let mut wakeups = EntryId::START;
        let mut checked = Instant::now();
        loop {
            self.is_woken.store(false, Ordering::SeqCst);
            let Some(cursors) = self.cursors() else { return self.link.close().await };
            match self.read(&cursors, wakeups).await {
                Ok(found) => {
                    let is_idle = found.is_empty();
                    wakeups = self.deliver(found, &cursors).unwrap_or(wakeups);
                    if !is_idle && cursors.len() > PACED_FROM {
                        tokio::time::sleep(PACE).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "could not read the streams of answers; trying again");
                    pause().await;
                    if error.recovery() == ErrorRecovery::Never {
                        self.drop_refused(&cursors).await;
                    }
                }
            }
            if checked.elapsed() >= BLOCK_TIMEOUT {
                checked = Instant::now();
                self.drop_ended().await;
            }
        }
    }

    /// The streams that can be read, each from where the first of its readers is. `None`: nobody reads any more.
    fn cursors(&self) -> Option<HashMap<String, EntryId>> {
        let mut state = self.state();
        state.subscribers.retain(|subscriber| !subscriber.entries.is_closed());
        if state.subscribers.is_empty() {
            state.is_running = false;
            return None;
        }
        let mut cursors: HashMap<String, EntryId> = HashMap::new();
        for subscriber in state.subscribers.iter().filter(|subscriber| subscriber.has_room()) {
            let cursor = cursors.entry(subscriber.key.clone()).or_insert(subscriber.last);
            *cursor = subscriber.last.min(*cursor);
        }
        Some(cursors)
    }

    async fn read(&self, cursors: &HashMap<String, EntryId>, wakeups: EntryId) -> Result<FoundEntries, Error> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(MAX_ENTRIES).arg("BLOCK").arg(crate::script::millis(BLOCK_TIMEOUT));
        read.arg("STREAMS").arg(&self.wakeup_key);
        for key in cursors.keys() {
            read.arg(key);
        }
        read.arg(wakeups.to_string());
        for last in cursors.values() {
            read.arg(last.to_string());
        }
        let reply: Value = self.link.run(async |connection| read.query_async(connection).await).await?;
        reply::parse(reply)
    }

    /// Hands over what was read from behind these entries. Returns the last wake-up, if there was one.
    fn deliver(&self, found: FoundEntries, cursors: &HashMap<String, EntryId>) -> Option<EntryId> {
        let mut woken = None;
        let mut state = self.state();
        for (key, entries) in found {
            if key == self.wakeup_key {
                woken = entries.last().map(|(id, _)| *id);
                continue;
            }
            let entries: Vec<StreamEntry> = entries.into_iter().map(|(id, event)| StreamEntry { id, event }).collect();
            let cursor = cursors.get(&key).copied().unwrap_or(EntryId::START);
            state.subscribers.retain_mut(|subscriber| {
                // One that came during the command, or had no room before it, may need entries before these: the next command reads them.
                if subscriber.key != key || subscriber.last < cursor {
                    return true;
                }
                let taken = entries.iter().take_while(|entry| subscriber.take(entry));
                // One that has the last entry is done.
                !taken.fold(false, |_, entry| entry.event.is_last())
            });
        }
        woken
    }

    /// Ends the streams that Redis refuses to read, such as a key of another type, so that they do not stop the others.
    async fn drop_refused(&self, cursors: &HashMap<String, EntryId>) {
        for (key, last) in cursors {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(1).arg("STREAMS").arg(key).arg(last.to_string());
            let answer = self.queue.db.run(async |connection| read.query_async::<Value>(connection).await).await;
            let Err(error) = answer.and_then(reply::parse) else { continue };
            if error.recovery() == ErrorRecovery::Never {
                let failure = StreamFailure {
                    status: crate::Status::Ok,
                    reason: None,
                    error: format!("Redis refuses to read the stream: {error}"),
                };
                self.end(|subscriber| subscriber.key == *key, &failure);
            }
        }
    }

    /// Ends streams that have been quiet for a while and whose task has a result: it has no stream, or not any more.
    async fn drop_ended(&self) {
        let quiet: Vec<TaskId> = {
            let state = self.state();
            let quiet = state.subscribers.iter().filter(|subscriber| subscriber.quiet_since.elapsed() >= QUIET);
            quiet.filter(|subscriber| !subscriber.stalled.is_set()).map(|subscriber| subscriber.id.clone()).collect()
        };
        if quiet.is_empty() {
            return;
        }
        let mut exist = redis::pipe();
        for id in &quiet {
            exist.cmd("EXISTS").arg(self.queue.keys.result(id));
        }
        let Ok(exist): Result<Vec<bool>, Error> =
            self.queue.db.run(async |connection| exist.query_async(connection).await).await
        else {
            return;
        };
        for (id, _) in quiet.iter().zip(exist).filter(|(_, exists)| *exists) {
            // What came together with the result is read before the next look.
            if !self.is_second_look(id) {
                continue;
            }
            let Ok(Some(result)) = self.queue.ended(id).await else { continue };
            let failure = StreamFailure {
                status: result.status,
                reason: result.reason,
                error: "the task has ended, and no more of it is in a stream: read its result".to_owned(),
            };
            let is_ended = |subscriber: &Subscriber| {
                subscriber.id == *id
                    && subscriber.has_result
                    && subscriber.quiet_since.elapsed() >= QUIET + BLOCK_TIMEOUT
            };
            self.end(is_ended, &failure);
        }
    }

    /// Whether a task had a result at an earlier look, and its stream has been quiet since.
    fn is_second_look(&self, id: &TaskId) -> bool {
        let mut state = self.state();
        let mut is_second = false;
        for subscriber in state.subscribers.iter_mut().filter(|subscriber| subscriber.id == *id) {
            is_second |= std::mem::replace(&mut subscriber.has_result, true);
        }
        is_second
    }

    /// Ends the streams of these subscribers.
    fn end(&self, is_ended: impl Fn(&Subscriber) -> bool, failure: &StreamFailure) {
        self.state().subscribers.retain(|subscriber| {
            let ends = is_ended(subscriber);
            if ends {
                subscriber.fail(failure.clone());
            }
            !ends
        });
    }

    fn state(&self) -> MutexGuard<'_, FeedState> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause between attempts while Redis is away. It is random, so that readers that lost Redis together do not all come back at the same
/// instant.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(50..=250))).await;
}
