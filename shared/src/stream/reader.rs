//! Reading the streams of answers: any number at a time, over few connections.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::feed::{Feed, MAX_STREAMS, StallSignal};
use crate::{EntryId, Queue, StreamEntry, TaskId};

/// How often it is looked whether a task answers in another partition than the one that its id belongs to.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// Reads the streams of a queue. Clones share their connections: one for each hundred streams that are read at the same time, none while
/// there are none. It needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct StreamReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    feeds: Mutex<Vec<Arc<Feed>>>,
}

/// The entries of one stream, in order. It ends behind the last one, and waits while Redis is away; a reader that has lost its connection
/// goes on where it was, so that no entry is left out or repeated.
///
/// Until the task begins to answer, there is nothing to read, and nothing of a task that does not exist: set a timeout. Of a task that
/// has ended without a stream, there is an [`Error`](crate::StreamEvent::Error) after some seconds. A slow reader holds up no other.
#[derive(Debug)]
#[must_use = "entries are only received while the stream is polled"]
pub struct AnswerStream {
    reader: StreamReader,
    id: TaskId,
    after: EntryId,
    search: Option<PartSearch>,
    feed: Arc<Feed>,
    entries: mpsc::Receiver<StreamEntry>,
    stalled: StallSignal,
}

impl StreamReader {
    /// A reader of the streams of `queue`. It connects when it first reads.
    pub fn new(queue: Queue) -> Self {
        Self { shared: Arc::new(Shared { queue, feeds: Mutex::default() }) }
    }

    /// Reads the stream of a task, whether or not it has begun, from behind an entry: [`EntryId::START`] for all of it.
    pub fn read(&self, id: &TaskId, after: EntryId) -> AnswerStream {
        let (home, is_sure) = self.shared.queue.known_home(id);
        let search = (!is_sure).then(|| PartSearch::new(self.shared.queue.clone(), home.clone(), id.clone()));
        let feed = self.feed_of(&home);
        let (entries, stalled) = Feed::subscribe(&feed, id, after);
        AnswerStream { reader: self.clone(), id: id.clone(), after, search, feed, entries, stalled }
    }

    /// A feed of a part of the queue that has room for another stream.
    fn feed_of(&self, part: &Queue) -> Arc<Feed> {
        // Nothing panics while it holds the lock.
        let mut feeds = self.shared.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let free = feeds.iter().find(|feed| feed.is_of(part) && feed.len() < MAX_STREAMS).cloned();
        free.unwrap_or_else(|| {
            let feed = Arc::new(Feed::new(part.clone()));
            feeds.push(feed.clone());
            feed
        })
    }
}

/// Looks for the part of a queue in which a task answers, if it is not where its id belongs: another program may have pushed it to any.
#[derive(Debug)]
struct PartSearch(JoinHandle<Option<Queue>>);

impl PartSearch {
    fn new(queue: Queue, home: Queue, id: TaskId) -> Self {
        Self(tokio::spawn(async move {
            loop {
                // While Redis is away there is nothing to find.
                if let Ok(found) = queue.part_with_answer(&home, &id).await
                    && let Some(found) = found
                {
                    return Some(found).filter(|found| found.name() != home.name());
                }
                tokio::time::sleep(SEARCH_INTERVAL).await;
            }
        }))
    }
}

impl Drop for PartSearch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AnswerStream {
    /// The next entry; `None` behind the last one. It is safe to drop the future: no entry is lost.
    pub async fn next(&mut self) -> Option<StreamEntry> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for AnswerStream {
    type Item = StreamEntry;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<StreamEntry>> {
        let mut entry = self.entries.poll_recv(context);
        if entry.is_ready() {
            self.search = None;
        } else if let Some(PartSearch(search)) = &mut self.search
            && let Poll::Ready(found) = Pin::new(search).poll(context)
        {
            self.search = None;
            if let Ok(Some(part)) = found {
                self.feed = self.reader.feed_of(&part);
                (self.entries, self.stalled) = Feed::subscribe(&self.feed, &self.id, self.after);
                entry = self.entries.poll_recv(context);
            }
        }
        if self.stalled.is_set() && Feed::has_room(self.entries.capacity()) && self.stalled.clear() {
            Feed::wake(&self.feed);
        }
        entry
    }
}
