//! Reading the streams of answers: any number at a time, over few connections.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::feed::{Feed, MAX_STREAMS, StallSignal};
use crate::{EntryId, Queue, StreamEntry, TaskId};

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
        // Nothing panics while it holds the lock.
        let mut feeds = self.shared.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let free = feeds.iter().find(|feed| feed.len() < MAX_STREAMS).cloned();
        let feed = free.unwrap_or_else(|| {
            let feed = Arc::new(Feed::new(self.shared.queue.clone()));
            feeds.push(feed.clone());
            feed
        });
        let (entries, stalled) = Feed::subscribe(&feed, id, after);
        AnswerStream { feed, entries, stalled }
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
        let entry = self.entries.poll_recv(context);
        if self.stalled.is_set() && Feed::has_room(self.entries.capacity()) && self.stalled.clear() {
            Feed::wake(&self.feed);
        }
        entry
    }
}
